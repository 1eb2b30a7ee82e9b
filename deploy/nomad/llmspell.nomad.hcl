job "llmspell" {
  type = "service"

  group "kernel-openai" {
    count = 1

    network {
      port "shell" { static = 9555 }
      port "iopub" { static = 9556 }
      port "stdin" { static = 9557 }
      port "control" { static = 9558 }
      port "hb" { static = 9559 }
    }

    restart {
      attempts = 10
      interval = "5m"
      delay = "5s"
      mode = "fail"
    }

    service {
      name = "kernel-openai"
      provider = "nomad"
      port = "shell"

      check {
        type = "script"
        task = "kernel"
        command = "llmspell-fleet"
        args = ["health", "--quiet", "kernel-openai"]
        interval = "10s"
        timeout = "5s"
      }
    }

    task "kernel" {
      driver = "docker"
      kill_timeout = "30s"

      config {
        image = "llmspell:0.11.0-dev"
        ports = ["shell", "iopub", "stdin", "control", "hb"]
        args = ["--id", "kernel-openai", "--config", "/etc/llmspell/kernels/kernel-openai.toml", "--ip", "0.0.0.0", "--ports", "9555,9556,9557,9558,9559", "--clients", "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"]
        init = true
        cap_drop = ["ALL"]
        volumes = ["local/kernel-openai.toml:/etc/llmspell/kernels/kernel-openai.toml:ro"]
      }

      env {
        LLMSPELL_KERNEL = "kernel-openai"
      }

      template {
        destination = "local/kernel-openai.toml"
        left_delimiter = "[[[["
        right_delimiter = "]]]]"
        data = "# Scripts that ask OpenAI over HTTP, and nothing else outside.\n#\n# Model services are not in this version: the section at the end is read by later versions, and this one\n# warns once that it has no effect. Until then a script asks the service itself, with http_request.\n#\n#   OPENAI_API_KEY=… llmspell-run --config examples/config/openai.toml script.lua\n\n[security]\n# Files below the working folder, and the hosts below.\nprofile = \"standard\"\n# The one secret the script needs; no other variable can be read.\nallow_env = [\"OPENAI_API_KEY\"]\n\n[tools.http_request]\n# The tool asks this host only, whatever a script or a model wants.\nallowed_hosts = [\"api.openai.com\"]\n# Long answers take their time.\ntimeout_seconds = 120\nmax_redirects = 0\nmax_response_size = \"20MB\"\n\n[kernel.tools]\n# Longer than timeout_seconds, so that the tool's own message is seen.\ntool_timeout = \"150s\"\n# Stay below the rate limit of the service.\nmax_concurrent_tools = 4\n\n[engines.lua]\n# A script that waits for a model may run for a while, not for ever.\ntimeout = \"10m\"\n\n[providers.openai]\napi_key_env = \"OPENAI_API_KEY\"\n"
      }

      resources {
        cpu = 100
        memory = 512
      }
    }
  }

  group "kernel-anthropic" {
    count = 1

    network {
      port "shell" { static = 9560 }
      port "iopub" { static = 9561 }
      port "stdin" { static = 9562 }
      port "control" { static = 9563 }
      port "hb" { static = 9564 }
    }

    restart {
      attempts = 10
      interval = "5m"
      delay = "5s"
      mode = "fail"
    }

    service {
      name = "kernel-anthropic"
      provider = "nomad"
      port = "shell"

      check {
        type = "script"
        task = "kernel"
        command = "llmspell-fleet"
        args = ["health", "--quiet", "kernel-anthropic"]
        interval = "10s"
        timeout = "5s"
      }
    }

    task "kernel" {
      driver = "docker"
      kill_timeout = "30s"

      config {
        image = "llmspell:0.11.0-dev"
        ports = ["shell", "iopub", "stdin", "control", "hb"]
        args = ["--id", "kernel-anthropic", "--config", "/etc/llmspell/kernels/kernel-anthropic.toml", "--ip", "0.0.0.0", "--ports", "9560,9561,9562,9563,9564", "--clients", "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"]
        init = true
        cap_drop = ["ALL"]
        volumes = ["local/kernel-anthropic.toml:/etc/llmspell/kernels/kernel-anthropic.toml:ro"]
      }

      env {
        LLMSPELL_KERNEL = "kernel-anthropic"
      }

      template {
        destination = "local/kernel-anthropic.toml"
        left_delimiter = "[[[["
        right_delimiter = "]]]]"
        data = "# Scripts that ask Anthropic over HTTP, and nothing else outside.\n#\n# Model services are not in this version: the section at the end is read by later versions, and this one\n# warns once that it has no effect. Until then a script asks the service itself, with http_request.\n#\n#   ANTHROPIC_API_KEY=… llmspell-run --config examples/config/anthropic.toml script.lua\n\n[security]\n# Files below the working folder, and the hosts below.\nprofile = \"standard\"\n# The one secret the script needs; no other variable can be read.\nallow_env = [\"ANTHROPIC_API_KEY\"]\n\n[tools.http_request]\n# The tool asks this host only, whatever a script or a model wants.\nallowed_hosts = [\"api.anthropic.com\"]\n# Long answers take their time.\ntimeout_seconds = 120\nmax_redirects = 0\nmax_response_size = \"20MB\"\n\n[kernel.tools]\n# Longer than timeout_seconds, so that the tool's own message is seen.\ntool_timeout = \"150s\"\n# Stay below the rate limit of the service.\nmax_concurrent_tools = 4\n\n[engines.lua]\n# A script that waits for a model may run for a while, not for ever.\ntimeout = \"10m\"\n\n[providers.anthropic]\napi_key_env = \"ANTHROPIC_API_KEY\"\n"
      }

      resources {
        cpu = 100
        memory = 512
      }
    }
  }

  group "kernel-local" {
    count = 1

    network {
      port "shell" { static = 9565 }
      port "iopub" { static = 9566 }
      port "stdin" { static = 9567 }
      port "control" { static = 9568 }
      port "hb" { static = 9569 }
    }

    restart {
      attempts = 10
      interval = "5m"
      delay = "5s"
      mode = "fail"
    }

    service {
      name = "kernel-local"
      provider = "nomad"
      port = "shell"

      check {
        type = "script"
        task = "kernel"
        command = "llmspell-fleet"
        args = ["health", "--quiet", "kernel-local"]
        interval = "10s"
        timeout = "5s"
      }
    }

    task "kernel" {
      driver = "docker"
      kill_timeout = "30s"

      config {
        image = "llmspell:0.11.0-dev"
        ports = ["shell", "iopub", "stdin", "control", "hb"]
        args = ["--id", "kernel-local", "--config", "/etc/llmspell/kernels/kernel-local.toml", "--ip", "0.0.0.0", "--ports", "9565,9566,9567,9568,9569", "--clients", "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"]
        init = true
        cap_drop = ["ALL"]
        volumes = ["local/kernel-local.toml:/etc/llmspell/kernels/kernel-local.toml:ro"]
      }

      env {
        LLMSPELL_KERNEL = "kernel-local"
      }

      template {
        destination = "local/kernel-local.toml"
        left_delimiter = "[[[["
        right_delimiter = "]]]]"
        data = "# Scripts that work on this machine only: no host outside, a model server on this machine, tight limits.\n#\n# Model services are not in this version: the section at the end is read by later versions, and this one\n# warns once that it has no effect. Until then a script asks the server itself, with http_request.\n\n[security]\n# Files below the working folder.\nprofile = \"standard\"\n# The model server. Addresses of this machine need a permission of their own.\nallow_net = [\"localhost:11434\", \"127.0.0.1:11434\"]\n\n[tools.http_request]\n# Nothing but the model server.\nallowed_hosts = [\"localhost\", \"127.0.0.1\"]\n# Large models answer slowly on small machines.\ntimeout_seconds = 300\n\n[tools.file_operations]\nmax_file_size = \"5MB\"\n# A crash leaves the old file or the new one, never half of one.\natomic_writes = true\n\n[kernel.tools]\ntool_timeout = \"6m\"\n# One model call at a time fills the machine; the rest is for quick tools.\nmax_concurrent_tools = 2\n\n[engines.lua]\nmax_memory_bytes = \"256MB\"\n\n[providers.local]\nbase_url = \"http://localhost:11434\"\n"
      }

      resources {
        cpu = 100
        memory = 512
      }
    }
  }
}
