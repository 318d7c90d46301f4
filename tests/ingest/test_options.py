"""Options for parameters: content shares, and options that were replaced."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.main import main


def run(*options: str) -> str:
    result = CliRunner().invoke(main, ["ingest", "run", "none.csv", *options])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("value", ["artist", "artist=", "=0.3", "artist=x", "artist=-1", "a=1e9"])
def test_a_malformed_content_share_is_a_usage_error(value: str) -> None:
    assert "is not of the form FIELD=SHARE" in run("--content-share", value)


def test_options_of_decays_name_what_replaces_them() -> None:
    hint = run("--query-decay", "0.9")
    assert "use dense_recency (--dense-recency) instead" in hint
    assert "0.9 about 0.4" in hint
    hint = run("--cooccurrence-decay=0.95")
    assert "use recency (--recency) instead" in hint
    assert "0.95 about 0.2" in hint
