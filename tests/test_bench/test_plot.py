"""Charts are well-formed, keep their data inside the frame, and name what they show."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import plot
from timeproto.bench.progress import Progress
from timeproto.errors import ConfigurationError

SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.floats(0.001, 1e6, allow_nan=False)
POINTS = st.lists(st.builds(plot.Point, VALUES, VALUES), min_size=1, max_size=8)


def words(document: ElementTree.Element) -> set[str]:
    return {element.text or "" for element in document.iter(f"{SVG}text")}


class Charts(SynchronousTestCase):
    @given(POINTS, st.booleans(), st.booleans())
    def test_points_stay_inside(self, points: list[plot.Point], log_x: bool, log_y: bool) -> None:
        """Whatever the values and scales are, no point lies outside the axes."""
        svg = plot.lines("t", [plot.Series("s", tuple(points))], x="a", y="b", log_x=log_x, log_y=log_y)
        circles = list(ElementTree.fromstring(svg).iter(f"{SVG}circle"))
        self.assertEqual(len(circles), len(points))
        for circle in circles:
            self.assertTrue(83 <= float(circle.attrib["cx"]) <= plot.WIDTH - 23, svg)
            self.assertTrue(73 <= float(circle.attrib["cy"]) <= plot.HEIGHT - 83, svg)

    def test_everything_is_named(self) -> None:
        """Title, both axes, every series and the note can be read."""
        series = [plot.Series("p50", (plot.Point(1, 2, 1, 3),)), plot.Series("limit", (plot.Point(1, 9),), dashed=True)]
        document = ElementTree.fromstring(plot.lines("Title", series, x="across", y="up", note="made so"))
        self.assertLessEqual({"Title", "across", "up", "p50", "limit", "made so"}, words(document))
        bars = plot.bars("Bars", ["g1", "g2"], [("one", [1.0, None]), ("two", [3.0, 4.0])], x="across", y="up")
        document = ElementTree.fromstring(bars)
        self.assertLessEqual({"Bars", "g1", "g2", "one", "two", "across", "up", "3", "4"}, words(document))
        self.assertEqual(len(list(document.iter(f"{SVG}rect"))), 1 + 3)

    def test_text_is_escaped(self) -> None:
        """A name with a sign of XML in it breaks nothing."""
        svg = plot.bars("a < b & c", ['"<"'], [("&", [1.0])], y="<y>", x="<x>", note="<!--")
        self.assertLessEqual({"a < b & c", '"<"', "&", "<y>", "<x>", "<!--"}, words(ElementTree.fromstring(svg)))

    def test_nothing_to_draw(self) -> None:
        """A measurement that found nothing still gives a chart."""
        ElementTree.fromstring(plot.lines("t", [plot.Series("s", ())], x="a", y="b", log_x=True, log_y=True))
        ElementTree.fromstring(plot.bars("t", ["g"], [("s", [None])], y="b"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Files(SynchronousTestCase):
    """Where a chart goes."""

    def test_one_below_the_other(self) -> None:
        """One document, as high as all of them."""
        one = plot.lines("one", [plot.Series("s", (plot.Point(1, 1),))], x="x", y="y")
        document = ElementTree.fromstring(plot.stack([one, one, one]))
        self.assertEqual(document.get("height"), str(3 * plot.HEIGHT))
        places = [each.get("y") for each in document]
        self.assertEqual(places, ["0", str(plot.HEIGHT), str(2 * plot.HEIGHT)])

    def test_names(self) -> None:
        """SVG always, PNG where it can be made, and nothing else: said before anything is measured."""
        plot.check_name(Path("a.svg"))
        self.assertRaises(ConfigurationError, plot.check_name, Path("a.jpg"))
        self.assertRaises(ConfigurationError, plot.check_name, Path("a"))
        self.patch(plot.shutil, "which", lambda name: None)
        self.assertRaises(ConfigurationError, plot.check_name, Path("a.png"))
        self.patch(plot.shutil, "which", lambda name: f"/usr/bin/{name}")
        plot.check_name(Path("a.png"))

    def test_a_png(self) -> None:
        """What the converter is given is the chart; what it complains of is told."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        converter = folder / "rsvg-convert"
        converter.write_text('#!/bin/sh\ncat > "$4"\n')
        converter.chmod(0o755)
        self.patch(plot, "CONVERTER", str(converter))
        plot.save(folder / "a.png", "<svg/>")
        plot.save(folder / "a.svg", "<svg/>")
        self.assertEqual([(folder / name).read_text() for name in ("a.png", "a.svg")], ["<svg/>"] * 2)
        converter.write_text('#!/bin/sh\necho "no room" >&2; exit 1\n')
        with self.assertRaises(ConfigurationError) as caught:
            plot.save(folder / "b.png", "<svg/>")
        self.assertIn("no room", str(caught.exception))


class Bar(SynchronousTestCase):
    def test_in_a_file(self) -> None:
        """A line for each stage and nothing between."""
        stream = io.StringIO()
        progress = Progress(stream)
        progress.stage("one")
        progress.show(0.5)
        progress.stage("two")
        progress.clear()
        self.assertEqual(stream.getvalue(), "one …\ntwo …\n")

    def test_on_a_terminal(self) -> None:
        """It is redrawn in place, never beyond its ends, and wiped away for what comes next."""
        stream = Terminal()
        progress = Progress(stream)
        progress.stage("one")
        progress.show(0.5, "half")
        progress.show(7.0)
        progress.clear()
        drawn = stream.getvalue()
        self.assertNotIn("\n", drawn)
        self.assertIn("one, half", drawn)
        self.assertEqual(drawn.split("\r")[-2].strip(), "")
        self.assertEqual(max(part.count("█") for part in drawn.split("\r")), 30)
