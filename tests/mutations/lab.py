"""A process that has imported torch and forks one pytest per request, inside a copy of the tree: imports are paid once.

Requests on stdin: {"tree": directory, "tests": [...], "log": file}; replies on stdout: {"code": pytest's exit code}.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import hypothesis
    import peft
    import pydantic
    import pytest
    import torch
    import transformers
    from transformers import LlamaForCausalLM, MistralForCausalLM  # noqa: F401

    assert hypothesis and peft and pydantic and transformers
    torch.set_num_threads(1)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 99
            try:
                log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os.chdir(request["tree"])
                here = [request["tree"], f"{request['tree']}/src"]
                sys.path[:] = [*here, *(p for p in sys.path if p and not p.startswith(request["real"] + "/src"))]
                sys.path[:] = [p for p in sys.path if p != request["real"]]
                for name in [n for n in sys.modules if n.partition(".")[0] in ("tests", "posttrain")]:
                    del sys.modules[name]
                code = int(pytest.main([*request["tests"], "-q", "-x", "-p", "no:cacheprovider", "--no-header"]))
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
