"""jupyter_kernel_test with every attribute set."""

import jupyter_kernel_test
import pytest
from jupyter_kernel_test import IopubWelcomeTests as Welcome
from jupyter_spec import installed


@pytest.fixture(autouse=True, scope="module")
def spec():
    with installed() as place:
        yield place


class LuaKernelTests(jupyter_kernel_test.KernelTests):
    kernel_name = "llmspell"
    language_name = "lua"
    file_extension = ".lua"

    code_hello_world = "print('hello, world')"
    code_stderr = "io.stderr:write('a word on stderr\\n')"
    completion_samples = [
        {"text": "string.rep", "matches": {"rep"}},
        {"text": "coroutine.is", "matches": {"isyieldable"}},
        {"text": "Tool.invoke('calc", "matches": {"calculator"}},
    ]
    complete_code_samples = ["x = 1", "print('hello, world')", "for i = 1, 3 do\n  print(i)\nend\n"]
    incomplete_code_samples = ["print('hello', ", "function f(x)\n  x = x * 2", "t = {1,"]
    invalid_code_samples = ["x = = 1", "end", "for for"]
    code_page_something = "help('string.format')"
    code_generate_error = "error('boom')"
    code_execute_result = [
        {"code": "1 + 2 + 3", "result": "6"},
        {"code": "return 'a', 2", "result": "a\t2"},
        {"code": "{1, 2, x = 'y'}", "result": '{1, 2, x = "y"}'},
    ]
    supported_history_operations = ("tail", "range", "search")
    code_history_pattern = "1 ? 2*"
    code_inspect_sample = "string.format"
    code_display_data = [
        {"code": "Display.html('<b>hi</b>')", "mime": "text/html"},
        {"code": "Display.markdown('*hi*')", "mime": "text/markdown"},
        {"code": "Display.json({a = 1})", "mime": "application/json"},
        {"code": "Display.svg('<svg/>')", "mime": "image/svg+xml"},
    ]
    code_clear_output = "Display.clear()"


class IopubWelcomeTests(Welcome):
    kernel_name = "llmspell"
    support_iopub_welcome = True


del Welcome
