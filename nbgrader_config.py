"""nbgrader on this repository's folders: `nbgrader generate_assignment 00_welcome`, formgrader.

`kdlab notebooks build` makes the releases with these same settings.
"""

from pathlib import Path

from nbgrader.preprocessors import NbGraderPreprocessor


class KeepStderr(NbGraderPreprocessor):
    """What a cell writes to stderr becomes ordinary output: nbgrader would take a test's points for a warning."""

    def preprocess_cell(self, cell, resources, index):
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.name = "stdout"
        return cell, resources


root = Path(__file__).parent
c = get_config()  # noqa: F821  (nbgrader hands it in)

c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "course"
# What lies beside a script stays there, unless `release_files` names it: then the build has put it into course/.
beside = {path.name for path in root.glob("solutions/*/*")}
released = {path.name for path in root.glob("course/*/*")}
c.CourseDirectory.ignore.extend(sorted(beside - released))

c.ClearSolutions.code_stub = {
    "python": '# Write your answer here, in place of the next line.\nraise NotImplementedError("not answered yet")'
}
c.ClearSolutions.text_stub = "*Write your answer here.*"

c.OverwriteCells.add_missing_cells = True
c.Autograde.autograde_preprocessors.insert(1, KeepStderr)  # after Execute
