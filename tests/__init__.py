"""The tests: one folder for each package, `road` for end-to-end tests, `support` for helpers."""

import pytest

pytest.register_assert_rewrite("tests.support")
