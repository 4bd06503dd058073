"""How a command ends on a UserError."""

import inspect

import pytest

from fteng.errors import UserError, says_user_errors


def ending_with(outcome: int | BaseException):
    @says_user_errors
    def main(arguments: list[str], *, told: str = "") -> int:
        """Of a command."""
        print(*arguments, told)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return main


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("--out: got 'x'; give a folder", "fteng: --out: got 'x'; give a folder\n"),
        ("a: no study\nb: no study", "fteng: a: no study\nfteng: b: no study\n"),
        ("a: no images. To get them:\n  get images", "fteng: a: no images. To get them:\n  get images\n"),
    ],
)
def test_a_user_error_becomes_a_line_for_each_of_its_own_and_status_2(text, lines, capsys):
    assert ending_with(UserError(text))(["--out=x"]) == 2
    assert capsys.readouterr() == ("--out=x \n", lines)


def test_any_other_status_is_the_commands_own(capsys):
    assert ending_with(143)(["--out=x"], told="more") == 143
    assert capsys.readouterr() == ("--out=x more\n", "")


@pytest.mark.parametrize("other", [ValueError("a defect"), KeyboardInterrupt(), SystemExit(0)])
def test_what_is_no_user_error_escapes(other, capsys):
    with pytest.raises(type(other)) as raised:
        ending_with(other)([])
    assert raised.value is other
    assert capsys.readouterr().err == ""


def test_a_command_keeps_its_name_docstring_and_parameters():
    main = ending_with(0)
    assert (main.__name__, main.__doc__) == ("main", "Of a command.")
    assert list(inspect.signature(main).parameters) == ["arguments", "told"]
