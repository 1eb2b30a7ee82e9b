-- What is in a folder? Counts its files by kind, finds duplicates, reads its texts and writes a report in Markdown.
--
--   llmspell-run examples/quickstart.lua [FOLDER] [--report FILE]
--
-- FOLDER is the current one unless you name another; the report goes to llmspell-report.md in the folder for
-- temporary files. Every file is reached through a tool, so this script can do no more than the policy allows:
-- read and write below the current folder and the one for temporary files. It needs no network.

local SKIPPED = { [".git"] = true, target = true, node_modules = true, [".venv"] = true, __pycache__ = true }

-- Big folders are not looked at to their end; the report says where it stopped.
local MOST_FILES = 20000
local MOST_DEPTH = 30
local MOST_TEXTS = 1000
local MOST_TEXT_BYTES = 1000000 -- of one text
local MOST_HASHED_BYTES = 500000000 -- of all files together

local TEXTS = {}
for kind in ([[c cc cfg conf cpp css csv go h hpp html ini java js json jsx lua md mk org pl py rb rs rst
  sh sql svg tex toml ts tsx tsv txt xml yaml yml]]):gmatch("%w+") do
  TEXTS["." .. kind] = true
end
TEXTS["none"] = true -- README, Makefile, LICENSE …

-- Asks a tool. Gives its result, or nil and a message: a tool that fails says so in its answer, and whatever keeps it
-- from running (no permission, no such file, wrong parameters) is raised as an error.
local function try(tool, params)
  local ran, answer = pcall(Tool.invoke, tool, params)
  if not ran then return nil, tostring(answer) end
  if not answer.success then return nil, answer.error.message end
  return answer.result
end

-- Arithmetic and text through tools as well, because this is a tour of them.
local function percent(part, whole)
  if whole == 0 then return 0 end
  return Tool.calculator({ input = "round(100 * part / whole)", variables = { part = part, whole = whole } }).result.result
end

local function shorten(text, most)
  local answer = Tool.text_manipulator({ operation = "truncate", input = text, options = { max_length = most } })
  return answer.result.result
end

local function bytes(count)
  local units = { "bytes", "kB", "MB", "GB", "TB" }
  local size, unit = count, 1
  while size >= 1000 and unit < #units do
    size, unit = size / 1000, unit + 1
  end
  return unit == 1 and ("%d %s"):format(count, count == 1 and "byte" or "bytes") or ("%.1f %s"):format(size, units[unit])
end

local function many(count, one, more)
  local digits = tostring(count):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
  return digits .. " " .. (count == 1 and one or more or one .. "s")
end

local function or_more(more)
  return more and " and more" or ""
end

-- A name as a cell of a Markdown table.
local function cell(text)
  return "`" .. text:gsub("`", "'"):gsub("|", "\\|"):gsub("%c", "?") .. "`"
end

local function kind_of(name)
  local ending = name:match("^.+(%.%w+)$")
  return ending and #ending <= 12 and ending:lower() or "none"
end

-- `path` as seen from `folder`, which it begins with.
local function below(folder, path)
  return path:sub(folder == "/" and 2 or #folder + 2)
end

-- Every file below `folder`, in order of name. What cannot be read is remembered in `found.problems`.
local function inventory(folder)
  local found = { files = {}, folders = 0, bytes = 0, problems = {}, whole = true }

  local function visit(path, depth)
    if #found.files == MOST_FILES or depth > MOST_DEPTH then
      found.whole = false
      return
    end
    local listing, problem = try("file_operations", { operation = "list_dir", path = path })
    if not listing then
      table.insert(found.problems, problem)
      return
    end
    found.folders = found.folders + 1
    found.whole = found.whole and not listing.truncated
    for _, entry in ipairs(listing.entries) do
      if entry.type == "directory" and not SKIPPED[entry.name] then
        visit(entry.path, depth + 1)
      elseif entry.type == "file" then
        if #found.files == MOST_FILES then
          found.whole = false
          return
        end
        local file = { path = entry.path, shown = below(folder, entry.path), size = entry.size, kind = kind_of(entry.name) }
        table.insert(found.files, file)
        found.bytes = found.bytes + file.size
      end
    end
  end

  visit(folder, 1)
  return found
end

-- Files by kind, the kind with the most bytes first.
local function by_kind(files)
  local kinds = {}
  for _, file in ipairs(files) do
    local row = kinds[file.kind]
    if not row then
      row = { kind = file.kind, count = 0, bytes = 0 }
      kinds[file.kind] = row
      table.insert(kinds, row)
    end
    row.count, row.bytes = row.count + 1, row.bytes + file.size
  end
  table.sort(kinds, function(a, b)
    if a.bytes ~= b.bytes then return a.bytes > b.bytes end
    return a.kind < b.kind
  end)
  return kinds
end

-- Groups of files with the same content. Only files of the same size are hashed.
local function duplicates(found)
  local same_size, hashed = {}, 0
  for _, file in ipairs(found.files) do
    if file.size > 0 then
      same_size[file.size] = same_size[file.size] or {}
      table.insert(same_size[file.size], file)
    end
  end
  local groups = { count = 0, waste = 0, whole = true }
  for size, files in pairs(same_size) do
    local same_hash = {}
    for _, file in ipairs(#files > 1 and files or {}) do
      if hashed + size > MOST_HASHED_BYTES then
        groups.whole = false
        break
      end
      hashed = hashed + size
      local digest, problem = try("hash_calculator", { operation = "hash", file = file.path })
      if digest then
        same_hash[digest.hash] = same_hash[digest.hash] or { size = size }
        table.insert(same_hash[digest.hash], file)
      else
        table.insert(found.problems, problem)
      end
    end
    for _, group in pairs(same_hash) do
      if #group > 1 then
        table.insert(groups, group)
        groups.count = groups.count + #group - 1
        groups.waste = groups.waste + size * (#group - 1)
      end
    end
  end
  table.sort(groups, function(a, b)
    local waste_a, waste_b = a.size * (#a - 1), b.size * (#b - 1)
    if waste_a ~= waste_b then return waste_a > waste_b end
    return a[1].path < b[1].path
  end)
  return groups
end

-- Lines and words of the texts.
local function read_texts(found)
  local texts = { lines = 0, words = 0, passed = 0, whole = true }
  for _, file in ipairs(found.files) do
    if TEXTS[file.kind] then
      if #texts == MOST_TEXTS then
        texts.whole = false
        break
      end
      local content
      if file.size <= MOST_TEXT_BYTES then
        content = try("file_operations", { operation = "read", path = file.path })
      end
      local text = content and content.input
      if text and not text:find("\0", 1, true) then
        local _, lines = text:gsub("\n", "")
        if text:find("[^\n]$") then lines = lines + 1 end
        local _, words = text:gsub("%S+", "")
        local widest = ""
        for line in text:gmatch("[^\n]+") do
          if #line > #widest then widest = line end
        end
        table.insert(texts, { file = file, lines = lines, words = words, widest = widest })
        texts.lines, texts.words = texts.lines + lines, texts.words + words
      else
        texts.passed = texts.passed + 1
      end
    end
  end
  table.sort(texts, function(a, b)
    if a.lines ~= b.lines then return a.lines > b.lines end
    return a.file.path < b.file.path
  end)
  return texts
end

-- What the texts promise to do later.
local function open_ends(folder)
  local skipped = {}
  for name in pairs(SKIPPED) do table.insert(skipped, name) end
  return try("file_search", {
    path = folder,
    pattern = [[\b(TODO|FIXME)[:(].*]],
    use_regex = true,
    recursive = true,
    context_lines = 0,
    exclude_dirs = skipped,
  }) or { matches = {}, summary = { total_matches = 0 }, truncated = true }
end

local function write_report(path, folder, found, kinds, groups, texts, marks)
  local lines = {}
  local function line(format, ...) table.insert(lines, select("#", ...) > 0 and format:format(...) or format) end

  line("# Report on %s", cell(folder))
  line("")
  line("%s in %s, %s.", many(#found.files, "file"), many(found.folders, "folder"), bytes(found.bytes))
  if not found.whole then line("There is more: the folder was not looked at to its end.") end

  line("\n## Kinds\n\n| kind | files | size | share |\n|---|--:|--:|--:|")
  for _, row in ipairs(kinds) do
    line("| %s | %d | %s | %d%% |", row.kind, row.count, bytes(row.bytes), percent(row.bytes, found.bytes))
  end

  line("\n## Largest files\n\n| file | size |\n|---|--:|")
  local largest = table.move(found.files, 1, #found.files, 1, {})
  table.sort(largest, function(a, b)
    if a.size ~= b.size then return a.size > b.size end
    return a.path < b.path
  end)
  for i = 1, math.min(10, #largest) do
    line("| %s | %s |", cell(largest[i].shown), bytes(largest[i].size))
  end

  line("\n## Duplicates\n")
  if #groups == 0 then line("None.") end
  for i = 1, math.min(50, #groups) do
    local names = {}
    for _, file in ipairs(groups[i]) do table.insert(names, cell(file.shown)) end
    line("- %s each: %s", bytes(groups[i].size), table.concat(names, ", "))
  end
  if #groups > 50 then line("- and %s", many(#groups - 50, "more group")) end
  if not groups.whole then line("\nNot all files were compared: more than %s.", bytes(MOST_HASHED_BYTES)) end

  line("\n## Texts\n\n%s, %s, %s.", many(#texts, "text"), many(texts.lines, "line"), many(texts.words, "word"))
  if not texts.whole then line("There are more texts than that.") end
  if texts.passed > 0 then line("%s too large or no text after all.", many(texts.passed, "file is", "files are")) end
  line("\n| text | lines | words | widest line |\n|---|--:|--:|---|")
  for i = 1, math.min(10, #texts) do
    local text = texts[i]
    line("| %s | %d | %d | %s |", cell(text.file.shown), text.lines, text.words, cell(shorten(text.widest, 60)))
  end

  line("\n## Open ends\n\n%s of TODO or FIXME%s.\n", many(marks.summary.total_matches, "mark"), or_more(marks.truncated))
  for i = 1, math.min(20, #marks.matches) do
    local match = marks.matches[i]
    local place = below(folder, match.file_path) .. ":" .. match.line_number
    line("- %s: %s", cell(place), cell(shorten(match.line_content:match("^%s*(.*)$"), 80)))
  end

  if #found.problems > 0 then
    line("\n## Not read\n")
    for i = 1, math.min(20, #found.problems) do line("- %s", found.problems[i]) end
    if #found.problems > 20 then line("- and %d more", #found.problems - 20) end
  end

  -- Not tried but done: an error here ends the script, with its message and the exit status of its class.
  local answer = Tool.invoke("file_operations", { operation = "write", path = path, input = table.concat(lines, "\n") .. "\n" })
  if not answer.success then error(answer.error.message, 0) end
end

local function usage()
  io.stderr:write("usage: quickstart.lua [FOLDER] [--report FILE]\n")
  os.exit(2)
end

local function main()
  local args = ARGS or {}
  for name, value in pairs(args) do
    local positional = tonumber(name)
    if positional and positional > 1 or not positional and (name ~= "report" or value == "true") then
      usage()
    end
  end
  local folder = (args[1] or "."):gsub("(.)/+$", "%1")
  local temporary = (os.getenv("TMPDIR") or "/tmp"):gsub("/+$", "")
  local report = args.report or temporary .. "/llmspell-report.md"

  -- A folder that is missing or forbidden ends the script here.
  local kind = Tool.invoke("file_operations", { operation = "metadata", path = folder }).result.type
  if kind ~= "directory" then error(folder .. " is not a folder", 0) end

  local found = inventory(folder)
  local kinds = by_kind(found.files)
  local groups = duplicates(found)
  local texts = read_texts(found)
  local marks = open_ends(folder)
  write_report(report, folder, found, kinds, groups, texts, marks)

  print(("%s: %s in %s, %s%s"):format(folder, many(#found.files, "file"), many(found.folders, "folder"),
    bytes(found.bytes), or_more(not found.whole)))
  if #kinds > 0 then print() end
  for i = 1, math.min(6, #kinds) do
    local row, share = kinds[i], percent(kinds[i].bytes, found.bytes)
    print(("  %-8s %-12s %10s %3d%%  %s"):format(row.kind, many(row.count, "file"), bytes(row.bytes), share, ("#"):rep(share // 5)))
  end
  if #kinds > 6 then print(("  and %s"):format(many(#kinds - 6, "more kind"))) end
  print()
  print(("Duplicates  %s"):format(groups.count == 0 and "none"
    or ("%s could go, %s"):format(many(groups.count, "file"), bytes(groups.waste))))
  print(("Texts       %s, %s, %s%s"):format(many(#texts, "file"), many(texts.lines, "line"), many(texts.words, "word"),
    or_more(not texts.whole)))
  if texts[1] then print(("Longest     %s, %s"):format(texts[1].file.shown, many(texts[1].lines, "line"))) end
  print(("Open ends   %s of TODO or FIXME%s"):format(many(marks.summary.total_matches, "mark"), or_more(marks.truncated)))
  if #found.problems > 0 then print(("Not read    %s, first: %s"):format(#found.problems, found.problems[1])) end
  print(("Report      %s"):format(report))
end

main()
