"`pytest nbs` runs each notebook as one test, with nbdev's runner; `--slow` runs the cells marked `#| slow` as well"
import signal
from contextlib import contextmanager

import pytest
from nbdev.config import get_config
from nbdev.test import test_nb as run_nb

def pytest_addoption(parser): parser.addoption('--slow', action='store_true', help='run the notebook cells marked `#| slow` as well')

@contextmanager
def as_found():
    "Leave the handler of Ctrl-C and textnb's `defaults` as they were: a notebook that sets the default rules sets those of its own cells"
    from textnb.all import defaults
    old,sigint = dict(vars(defaults)),signal.getsignal(signal.SIGINT)
    try: yield
    finally:
        signal.signal(signal.SIGINT, sigint)
        vars(defaults).clear()
        vars(defaults).update(old)

class Notebook(pytest.Item):
    def runtest(self):
        cfg = get_config(self.path.parent)
        force = ['slow'] if self.config.getoption('slow', False) else []
        with as_found(): ok,_ = run_nb(self.path, skip_flags=cfg.tst_flags.split(), force_flags=force, basepath=cfg.config_path)
        if not ok: pytest.fail(f'a cell of {self.path.name} raised: its traceback is below', pytrace=False)
    def reportinfo(self): return self.path, None, self.path.relative_to(self.config.rootpath).as_posix()

class NotebookFile(pytest.File):
    def collect(self): yield Notebook.from_parent(self, name=self.path.stem)

def pytest_collect_file(parent, file_path):
    if file_path.suffix=='.ipynb' and file_path.name[0] not in '._' and '.ipynb_checkpoints' not in file_path.parts:
        return NotebookFile.from_parent(parent, path=file_path)
