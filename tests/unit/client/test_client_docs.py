"""What the documentation shows is what is tested."""

from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_raw_client_in_the_docs_is_the_example_and_at_most_thirty_lines():
    code = (ROOT / "examples" / "raw_producer_consumer.py").read_text()
    assert f"```python\n{code}```" in (ROOT / "docs" / "raw-client.md").read_text()
    assert len(code.splitlines()) <= 30
    assert "harness_stream" not in code
