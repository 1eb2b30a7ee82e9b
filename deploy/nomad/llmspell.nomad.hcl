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
        args = ["--id", "kernel-openai", "--config", "/etc/llmspell/kernels/kernel-openai.toml", "--ip", "0.0.0.0", "--ports", "9555,9556,9557,9558,9559", "--allow-clients", "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"]
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
        data = "# Scripts that ask OpenAI's models, and nothing else outside.\n#\n#   llmspell-kernel keys set openai\n#   llmspell-run --config examples/config/openai.toml -e 'print(ask(\"Say hello in French.\"))'\n\n[models]\n# What is asked when nobody names a model.\ndefault = \"openai/gpt-5-mini\"\n# A run that would spend more ends with exit status 9. Prices are US dollars for a million tokens, read and written; those\n# in effect are at the service.\nmax_cost = 0.50\n\n[models.prices]\n\"openai/*\" = [1.25, 10.0]\n\n[providers.openai]\n# Stay below the rate limit of the service.\nrequests_per_minute = 60\n\n[security]\n# Files below the working folder; the service needs no permission of its own.\nprofile = \"standard\"\n\n[tools.http_request]\n# What scripts and models may ask by themselves: nothing but this.\nallowed_hosts = [\"api.openai.com\"]\nmax_response_size = \"20MB\"\n\n[engines.lua]\n# A script that waits for a model may run for a while, not for ever.\ntimeout = \"10m\"\n"
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
        args = ["--id", "kernel-anthropic", "--config", "/etc/llmspell/kernels/kernel-anthropic.toml", "--ip", "0.0.0.0", "--ports", "9560,9561,9562,9563,9564", "--allow-clients", "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"]
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
        data = "# Scripts that ask Anthropic's models, and nothing else outside.\n#\n#   llmspell-kernel keys set anthropic\n#   llmspell-run --config examples/config/anthropic.toml -e 'print(ask(\"Say hello in French.\"))'\n\n[models]\n# What is asked when nobody names a model.\ndefault = \"anthropic/claude-sonnet-4-5\"\n# A run that would spend more ends with exit status 9. Prices are US dollars for a million tokens, read and written; those\n# in effect are at the service.\nmax_cost = 0.50\n\n[models.prices]\n\"anthropic/*\" = [3.0, 15.0]\n\n[providers.anthropic]\n# Stay below the rate limit of the service.\nrequests_per_minute = 60\n\n[security]\n# Files below the working folder; the service needs no permission of its own.\nprofile = \"standard\"\n\n[tools.http_request]\n# What scripts and models may ask by themselves: nothing but this.\nallowed_hosts = [\"api.anthropic.com\"]\nmax_response_size = \"20MB\"\n\n[engines.lua]\n# A script that waits for a model may run for a while, not for ever.\ntimeout = \"10m\"\n"
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
        args = ["--id", "kernel-local", "--config", "/etc/llmspell/kernels/kernel-local.toml", "--ip", "0.0.0.0", "--ports", "9565,9566,9567,9568,9569", "--allow-clients", "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"]
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
        data = "# Scripts that work on this machine only: no host outside, a model server on this machine, tight limits.\n#\n#   llmspell-run --config examples/config/local.toml -e 'print(ask(\"Say hello in French.\"))'\n\n[models]\n# Ollama; for llama.cpp, vLLM or LM Studio name llamacpp, vllm or lmstudio, or give [providers.NAME] a base_url.\ndefault = \"local/llama3.2\"\n# Large models answer slowly on small machines.\nresponse_timeout = \"20m\"\n\n[providers.local]\ntype = \"ollama\"\nbase_url = \"http://localhost:11434\"\n\n[security]\n# Files below the working folder. The model server needs no permission of its own.\nprofile = \"standard\"\n\n[tools.file_operations]\nmax_file_size = \"5MB\"\n# A crash leaves the old file or the new one, never half of one.\natomic_writes = true\n\n[kernel.tools]\n# A few model calls at a time fill the machine; the rest is for quick tools.\nmax_concurrent_tools = 4\n\n[engines.lua]\nmax_memory_bytes = \"256MB\"\n"
      }

      resources {
        cpu = 100
        memory = 512
      }
    }
  }
}
