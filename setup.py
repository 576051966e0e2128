"""Builds the package as pyproject.toml says, with the files of this repository's top that an installed kit brings.

They stay where they are here, and a checkout (an editable install too) reads them there: `src/embrepro/kit.py`.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDER = "embrepro_kit"
BROUGHT = ("conf", "dvc.yaml", "requirements", "scripts/pip_settings.py")


class BuildWithFiles(build_py):
    """Copies them beside the package."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        root = Path(__file__).parent
        for name in BROUGHT:
            target = Path(self.build_lib, FOLDER, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if (root / name).is_dir():
                shutil.copytree(root / name, target, dirs_exist_ok=True)
            else:
                shutil.copy2(root / name, target)


setup(cmdclass={"build_py": BuildWithFiles})
