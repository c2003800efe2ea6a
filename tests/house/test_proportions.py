"""As many lines of tests as of source: what the admired libraries have."""

from checkout import code_lines, package_files, python_files


def test_there_are_at_least_as_many_test_lines_as_source_lines() -> None:
    source = code_lines(package_files())
    tests = code_lines(python_files("tests"))
    assert tests >= source, f"{tests} test lines for {source} source lines: {tests / source:.2f}"
