# make                      build everything (cargo does the work)
# make test                 run all tests
# make install              copy it to PREFIX, below DESTDIR if that is set
# make uninstall            remove what install copied
#
# BUILD is where the built programs are, for an installation of another build than `make` makes.

.POSIX:

PREFIX = /usr/local
DESTDIR =
CARGO = cargo
BUILD = $${CARGO_TARGET_DIR:-target}/release

PROGRAMS = llmspell-fleet llmspell-kernel llmspell-run llmspell-tool
PAGES1 = llmspell-fleet.1 llmspell-kernel.1 llmspell-run.1 llmspell-tool.1
PAGES5 = llmspell.toml.5
PAGES7 = llmspell.7 llmspell-builds.7 llmspell-jupyter.7 llmspell-lua.7 llmspell-protocol.7 llmspell-tools.7 llmspell-service.7
TEXTS = README.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT
SCRIPTS = agent-approval.lua agent-budget.lua agent-extract.lua agent-local.lua agent-team.lua agent-tools.lua agent.lua errors.lua fetch.lua hello.lua \
    progress.lua quickstart.lua workflow.lua workflow_agents.lua workflow_conditional.lua workflow_errors.lua workflow_graph.lua workflow_loop.lua workflow_parallel.lua workflow_resume.lua fleet.toml
CONFIGS = anthropic.toml local.toml openai.toml
UNITS = llmspell-kernel.service llmspell-kernel@.service
USER_UNITS = llmspell-fleet-route@.service llmspell-fleet-serve.service
NOTEBOOKS = data.ipynb tools.ipynb tour.ipynb

BIN = $(DESTDIR)$(PREFIX)/bin
MAN = $(DESTDIR)$(PREFIX)/share/man
DOC = $(DESTDIR)$(PREFIX)/share/doc/llmspell
BASH = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISH = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
SYSTEMD = $(DESTDIR)$(PREFIX)/lib/systemd
SYSUSERS = $(DESTDIR)$(PREFIX)/lib/sysusers.d

all:
	$(CARGO) build --release --locked

test:
	tests/run

install:
	@test -x "$(BUILD)/llmspell-run" || { echo "nothing is built in $(BUILD): run make first" >&2; exit 1; }
	umask 022; mkdir -p "$(BIN)" "$(MAN)/man1" "$(MAN)/man5" "$(MAN)/man7" "$(DOC)/examples/config" "$(DOC)/examples/notebooks" "$(BASH)" "$(ZSH)" "$(FISH)" \
	    "$(SYSTEMD)/system" "$(SYSTEMD)/user" "$(SYSUSERS)" "$(DOC)/deploy"
	for program in $(PROGRAMS); do install -m 755 "$(BUILD)/$$program" "$(BIN)/" || exit; done
	ln -sf llmspell-run "$(BIN)/llmspell"
	cd man && install -m 644 $(PAGES1) "$(MAN)/man1/"
	cd man && install -m 644 $(PAGES5) "$(MAN)/man5/"
	cd man && install -m 644 $(PAGES7) "$(MAN)/man7/"
	install -m 644 $(TEXTS) "$(DOC)/"
	cd examples && install -m 644 $(SCRIPTS) "$(DOC)/examples/"
	cd examples/config && install -m 644 $(CONFIGS) "$(DOC)/examples/config/"
	cd examples/notebooks && install -m 644 $(NOTEBOOKS) "$(DOC)/examples/notebooks/"
	umask 022; cd deploy/systemd && for unit in $(UNITS); do \
	    sed 's,/usr/local/bin/,$(PREFIX)/bin/,' $$unit >"$(SYSTEMD)/system/$$unit" && \
	    sed 's,/usr/local/bin/,$(PREFIX)/bin/,' user/$$unit >"$(SYSTEMD)/user/$$unit" || exit; done
	umask 022; cd deploy/systemd/user && for unit in $(USER_UNITS); do \
	    sed 's,/usr/local/bin/,$(PREFIX)/bin/,' $$unit >"$(SYSTEMD)/user/$$unit" || exit; done
	install -m 644 deploy/systemd/llmspell.sysusers "$(SYSUSERS)/llmspell.conf"
	umask 022; cd deploy && for folder in docker kubernetes launchd nomad; do \
	    mkdir -p "$(DOC)/deploy/$$folder" && install -m 644 $$folder/* "$(DOC)/deploy/$$folder/" || exit; done
	umask 022; for program in $(PROGRAMS); do \
	    "$(BIN)/$$program" --generate bash >"$(BASH)/$$program" && \
	    "$(BIN)/$$program" --generate zsh >"$(ZSH)/_$$program" && \
	    "$(BIN)/$$program" --generate fish >"$(FISH)/$$program.fish" || exit; done

uninstall:
	for program in $(PROGRAMS); do \
	    rm -f "$(BIN)/$$program" "$(BASH)/$$program" "$(ZSH)/_$$program" "$(FISH)/$$program.fish"; done
	rm -f "$(BIN)/llmspell"
	for page in $(PAGES1); do rm -f "$(MAN)/man1/$$page"; done
	for page in $(PAGES5); do rm -f "$(MAN)/man5/$$page"; done
	for page in $(PAGES7); do rm -f "$(MAN)/man7/$$page"; done
	for unit in $(UNITS); do rm -f "$(SYSTEMD)/system/$$unit" "$(SYSTEMD)/user/$$unit"; done
	for unit in $(USER_UNITS); do rm -f "$(SYSTEMD)/user/$$unit"; done
	rm -f "$(SYSUSERS)/llmspell.conf"
	rm -rf "$(DOC)"

.PHONY: all test install uninstall
