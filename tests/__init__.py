"""The tests: a folder for each package, `road` for end-to-end tests, `support` for shared code."""

import pytest

pytest.register_assert_rewrite("tests.support")
