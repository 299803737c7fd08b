"""Pascal VOC."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveal.errors import BadPicture, UserError
from foveal.formats.boxfiles import Object, Place
from foveal.formats.voc import find_voc, parse_voc, read_voc
from foveal.records import BoxSource, Remark


def xml(*objects, size=(64, 48), filename="x.jpg"):
    text = f"<annotation>\n<filename>{filename}</filename><path>/home/pi/x.jpg</path>"
    text += f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    for name, *corners, difficult in objects:
        box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
        text += f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"
    return (text + "</annotation>").encode()


def voc(folder, *names, pictures="JPEGImages", annotations="Annotations", objects=(("cat", 1, 2, 30, 40, 0),)):
    for name in names:
        for place, suffix, content in (
            (pictures, "jpg", name.encode()),
            (annotations, "xml", xml(*objects, filename=f"{name.rpartition('/')[2]}.jpg")),
        ):
            (folder / place / f"{name}.{suffix}").parent.mkdir(parents=True, exist_ok=True)
            (folder / place / f"{name}.{suffix}").write_bytes(content)
    return folder


def refusal(content):
    with pytest.raises(BadPicture) as caught:
        parse_voc(content, "1.xml")
    return str(caught.value)


def test_values_are_kept_as_they_are_written():
    annotation = parse_voc(xml(("cat", 73.19, 1, " 132.55\n", 48, 1), ("dog", -3, 0, 64, 50, 0)), "")
    assert annotation.objects == (
        Object("cat", 73.19, 1, 132.55, 48, difficult=True),
        Object("dog", -3, 0, 64, 50, difficult=False),
    )
    assert (annotation.size, annotation.file) == ((64, 48), "x.jpg")


def test_parts_of_an_object_are_no_objects():
    content = xml(("person", 1, 2, 30, 40, 0)).replace(
        b"</object>",
        b"<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>",
    )
    assert [each.kind for each in parse_voc(content, "").objects] == ["person"]


@pytest.mark.parametrize("size", [None, (0, 0), ("", ""), ("wide", "high"), (-5, 4)])
def test_a_size_that_says_nothing_is_none(size):
    assert parse_voc(xml(size=size), "").size is None


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is no XML: no element found: line 1, column 0"),
        (b"<annotation><object></annotation>", "is no XML: mismatched tag: line 1, column 22"),
        (b"\xff\xd8\xff\xe0", "is no XML: not well-formed (invalid token): line 1, column 0"),
        (b"<annotations><image/></annotations>", "its root is <annotations>, not <annotation>"),
        (b"<annotation><object><name> </name></object></annotation>", "object 1 has no name"),
        (xml(("cat", 1, 2, 30, 40, 0), ("dog", 1, "two", 30, 40, 0)), "object 2 (dog): ymin is 'two', no number"),
        (xml(("cat", 1, 2, "", 40, 0)), "object 1 (cat): no xmax"),
        (xml(("cat", 1, 2, 3, "inf", 0)), "object 1 (cat): ymax is inf"),
        (b"<annotation><object><name>cat</name></object></annotation>", "object 1 (cat): no xmin"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><annotation/>',
         "it declares a document type, which annotations have no need of"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "is no XML: unknown encoding: klingon"),
    ],
)  # fmt: skip
def test_what_is_broken_is_told(content, what):
    assert refusal(content) == f"1.xml: {what}"


def test_entities_are_not_expanded():
    bomb = "<!DOCTYPE z [<!ENTITY a 'ha'>" + "".join(
        f"<!ENTITY {chr(98 + row)} '{('&' + chr(97 + row) + ';') * 20}'>" for row in range(9)
    )
    assert "document type" in refusal((bomb + "]><annotation>&j;</annotation>").encode())
    assert "document type" in refusal((bomb + "]><annotation>&j;</annotation>").encode("utf-16"))


def test_a_folder_of_the_development_kit(tmp_path):
    voc(tmp_path, "2", "10", "1")
    assert find_voc(tmp_path) == {"all": Place("voc", tmp_path / "Annotations", (tmp_path / "JPEGImages",))}
    source, said = read_voc(find_voc(tmp_path)["all"])
    assert isinstance(source, BoxSource)
    assert (source.files, source.class_names, said, source.bad) == (("1.jpg", "2.jpg", "10.jpg"), ("cat",), (), ())
    assert source.where(2) == f"{tmp_path}/JPEGImages/10.jpg (10.xml)"
    sample = source.read(1)
    assert (sample.key, sample.picture, sample.label.values.tolist()) == ("2.jpg", b"2", [[1, 2, 30, 40]])
    assert (sample.label.unit, sample.label.of, sample.label.size) == ("pixel", "upright", (64, 48))


def test_lists_of_splits_are_heeded(tmp_path):
    voc(tmp_path, "1", "2", "3", "a b")
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "train.txt").write_text("1\n3.jpg\r\n\na b\n9\n")
    (main / "val.txt").write_text("2\n")
    (main / "cat_train.txt").write_text("1 -1\n")
    places = find_voc(tmp_path)
    assert list(places) == ["train", "validation"]
    source, _ = read_voc(places["train"])
    assert source.files == ("1.jpg", "3.jpg", "a b.jpg")
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        (f"{main}/train.txt, line 5", f"there is no annotation 9.xml in {tmp_path}/Annotations")
    ]
    assert read_voc(places["validation"])[0].files == ("2.jpg",)


def test_trainval_is_training_data_where_there_is_no_train(tmp_path):
    voc(tmp_path, "1", "2")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "trainval.txt").write_text("1 1\n2 -1\n")
    assert read_voc(find_voc(tmp_path)["train"])[0].files == ("1.jpg", "2.jpg")


@pytest.mark.parametrize(
    ("pictures", "annotations"), [("images", "annotations"), ("images", "labels"), ("", ""), ("", "xmls")]
)
def test_other_layouts(tmp_path, pictures, annotations):
    voc(tmp_path, "1", "b/2", pictures=pictures, annotations=annotations)
    assert read_voc(find_voc(tmp_path)["all"])[0].files == ("1.jpg", "b/2.jpg")


def test_folders_of_splits_inside(tmp_path):
    voc(tmp_path, "train/1", "train/2", "val/3", pictures="images", annotations="annotations")
    places = find_voc(tmp_path)
    assert {split: read_voc(place)[0].files for split, place in places.items()} == {
        "train": ("1.jpg", "2.jpg"), "validation": ("3.jpg",)
    }  # fmt: skip


def test_the_name_of_the_xml_tells_the_picture_and_filename_only_without_it(tmp_path):
    voc(tmp_path, "0001", "x")
    (tmp_path / "Annotations" / "7.xml").write_bytes(xml(filename="0001.jpg"))
    (tmp_path / "Annotations" / "x.xml").write_bytes(xml(filename="P00004.jpg"))
    source, said = read_voc(find_voc(tmp_path)["all"])
    assert source.files == ("0001.jpg", "0001.jpg", "x.jpg")
    told = (
        "other names: 1 annotation taken for the picture of the same name, and not for the one named inside; "
        "the first: x.xml names P00004.jpg"
    )
    assert said == (Remark("other-names", told),)
    assert [source.read(row).key for row in range(2)] == ["0001.jpg (0001.xml)", "0001.jpg (7.xml)"]


def test_what_can_not_be_used_is_named_and_the_rest_is_read(tmp_path):
    voc(tmp_path, "1", "5")
    (tmp_path / "JPEGImages" / "lonely.png").write_bytes(b"x")
    for name, content in (("2", b"<annotation>"), ("3", xml(filename="three.jpg")), ("4", b" \n")):
        (tmp_path / "Annotations" / f"{name}.xml").write_bytes(content)
    source, said = read_voc(find_voc(tmp_path)["all"])
    assert source.files == ("1.jpg", "5.jpg")
    assert [(bad.where, bad.reason) for bad in source.bad] == [
        (f"{tmp_path}/Annotations/2.xml", "is no XML: no element found: line 1, column 12"),
        (f"{tmp_path}/Annotations/3.xml", f"its picture three.jpg isn't in {tmp_path}/JPEGImages"),
        (f"{tmp_path}/Annotations/4.xml", "the file is empty"),
    ]
    told = f"left out: 1 pictures in {tmp_path}/JPEGImages without an annotation, e.g. lonely.png"
    assert said == (Remark("passed-over", told),)


def test_a_folder_without_one_usable_annotation_is_refused(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "1.xml").write_bytes(b"<annotation>")
    with pytest.raises(UserError) as caught:
        read_voc(find_voc(tmp_path)["all"])
    assert str(caught.value) == (
        f"{tmp_path}/Annotations: none of its 1 annotations can be used; the first: {tmp_path}/Annotations/1.xml: "
        "is no XML: no element found: line 1, column 12\n"
        "Look whether pictures and annotations belong together, and whether the form was recognised rightly."
    )


def test_classes_are_sorted_or_matched_by_name(tmp_path):
    voc(tmp_path, "1", objects=[("10", 0, 0, 1, 1, 0), ("9", 0, 0, 1, 1, 0)])
    voc(tmp_path, "2", objects=[("9", 0, 0, 1, 1, 0)])
    place = find_voc(tmp_path)["all"]
    source, _ = read_voc(place)
    assert (source.class_names, source.labels().values.tolist()) == (("9", "10"), [1, 0, 0])
    matched, _ = read_voc(place, class_names=("10", "x", "9"))
    assert (matched.class_names, matched.labels().values.tolist()) == (("10", "x", "9"), [0, 2, 2])
    with pytest.raises(UserError) as caught:
        read_voc(place, class_names=("9", "x"))
    assert str(caught.value) == (
        f"{tmp_path}/JPEGImages/1.jpg (1.xml): the class 10 is not among the known classes (9, x)\n"
        "The classes are those of the training data, or of a classes.txt beside it: mend the name, or add it."
    )


def test_other_xml_is_not_taken_for_it(tmp_path):
    (tmp_path / "1.xml").write_text("<annotations><image/></annotations>")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "1.xml").write_text("<html/>")
    assert find_voc(tmp_path) == {}


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<>&"), min_size=1).filter(str.strip)
coordinate = st.floats(-1e6, 1e6)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(texts, coordinate, coordinate, coordinate, coordinate, st.integers(0, 1)), max_size=4))
def test_any_objects_come_back(objects):
    found = parse_voc(xml(*objects), "").objects
    assert found == tuple(Object(name.strip(), *corners, bool(d)) for name, *corners, d in objects)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_broken_bytes_are_bad_pictures_and_nothing_worse(junk, at):
    content = xml(("cat", 1, 2, 30, 40, 0))
    try:
        parse_voc(content[:at] + junk + content[at + len(junk) :], "x")
    except BadPicture as error:
        assert str(error).startswith("x: ")
