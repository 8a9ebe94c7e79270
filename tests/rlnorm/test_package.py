"""What `import rlnorm` costs and what `help(rlnorm)` teaches."""

import doctest
import subprocess
import sys

import rlnorm


def test_the_examples_of_the_docstring_are_true():
    result = doctest.testmod(rlnorm)
    assert result.attempted >= 5
    assert result.failed == 0


def test_importing_it_imports_nothing_heavy():
    code = "import rlnorm, sys; print(rlnorm.__version__, {'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [rlnorm.__version__, "set()"]
