import json
from pathlib import Path

import pytest

from strive.report.pictures import pictures

PNG = b"\x89PNG\r\n\x1a\n"


def folder(path: Path, **files: bytes) -> str:
    (path / "pictures").mkdir(parents=True)
    for name, content in files.items():
        (path / "pictures" / f"{name}.png").write_bytes(content)
    return str(path)


def test_pictures_are_sorted_by_name_and_only_png_files_are_any(tmp_path: Path):
    found = pictures([("a", folder(tmp_path / "a", two=PNG, one=PNG, text=b"<svg>"))])
    assert [(each.cell, each.name) for each in found] == [("a", "one"), ("a", "two")]
    assert {each.uri for each in found} == {"data:image/png;base64,iVBORw0KGgo="}


def test_a_picture_that_has_no_room_is_named_without_its_content(tmp_path: Path):
    cells = [("a", folder(tmp_path / "a", large=PNG + b"0" * 100)), ("b", folder(tmp_path / "b", small=PNG))]
    assert [(each.name, bool(each.uri)) for each in pictures(cells, room=20)] == [("large", False), ("small", True)]


def test_a_cell_without_a_folder_has_no_pictures(tmp_path: Path, monkeypatch):
    # "" would be the folder that the command was started in.
    folder(tmp_path, one=PNG)
    monkeypatch.chdir(tmp_path)
    assert pictures([("a", ""), ("b", str(tmp_path / "b"))]) == []


def test_a_picture_has_the_title_and_the_caption_of_the_file_beside_it(tmp_path: Path):
    cell = folder(tmp_path / "a", filters=PNG)
    (tmp_path / "a" / "pictures" / "filters.json").write_text(json.dumps({"title": "Filters", "caption": "Of conv1."}))
    ((title, caption),) = [(each.title, each.caption) for each in pictures([("a", cell)])]
    assert (title, caption) == ("Filters", "Of conv1.")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"title": 1, "caption": null}', '{"title": "alone"}'])
def test_what_cannot_be_read_beside_a_picture_is_left_out(tmp_path: Path, text: str):
    cell = folder(tmp_path / "a", filters=PNG)
    (tmp_path / "a" / "pictures" / "filters.json").write_text(text)
    assert [(each.name, each.title, each.caption) for each in pictures([("a", cell)])] == [("filters", "", "")]
