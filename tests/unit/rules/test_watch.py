"""`rules push --watch` looks at what a file says, not at how it was written."""

from itertools import islice

from harness_stream.cli.rules_watch import states


def test_each_new_content_once(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text("a")
    script = iter([file.touch, lambda: file.write_text("b"), file.unlink, lambda: file.write_text("b")])
    seen = states(file, sleep=lambda _: next(script)())
    assert list(islice(seen, 4)) == [b"a", b"b", None, b"b"]


def test_a_file_that_is_not_there_yet(tmp_path):
    file = tmp_path / "rules.yaml"
    seen = states(file, sleep=lambda _: file.write_text("a"))
    assert list(islice(seen, 2)) == [None, b"a"]
