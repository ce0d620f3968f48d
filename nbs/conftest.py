"`pytest nbs` runs each notebook as one test, with nbdev's runner; `--slow` runs the cells marked `#| slow` as well"
import signal,sys
from contextlib import contextmanager

import pytest
from nbdev.config import get_config
from nbdev.test import test_nb as run_nb

def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run the notebook cells marked `#| slow` as well')
    parser.addoption('--nb-device', default='cpu', help='where the models of the notebooks are: what they show was made on a CPU, and a GPU draws other random numbers')

def classes():
    "The classes that textnb has defined so far"
    mods = [m for n,m in list(sys.modules.items()) if n.split('.')[0]=='textnb']
    return {c for m in mods for c in vars(m).values() if isinstance(c, type) and c.__module__.split('.')[0]=='textnb'}

def registers():
    "The dictionaries of textnb's modules, where a notebook may enter its own methods and architectures"
    mods = [m for n,m in list(sys.modules.items()) if n.split('.')[0]=='textnb']
    return [v for m in mods for k,v in vars(m).items() if type(v) is dict and k[:2]!='__']

@contextmanager
def as_found(device):
    "Leave textnb as it was: a notebook patches the methods that it grows onto the library's classes, and enters its own classes in registers"
    import textnb.all
    defaults = textnb.all.defaults
    old,sigint = dict(vars(defaults)),signal.getsignal(signal.SIGINT)
    had,kept = {c:dict(vars(c)) for c in classes()},[(d,dict(d)) for d in registers()]
    defaults.device = device
    try: yield
    finally:
        signal.signal(signal.SIGINT, sigint)
        for d,was in [(vars(defaults),old), *kept]:
            d.clear()
            d.update(was)
        for c,was in had.items():
            for k in [k for k,v in vars(c).items() if was.get(k) is not v]: setattr(c, k, was[k]) if k in was else delattr(c, k)

class Notebook(pytest.Item):
    def runtest(self):
        cfg = get_config(self.path.parent)
        force = ['slow'] if self.config.getoption('slow', False) else []
        with as_found(self.config.getoption('nb_device', 'cpu')): ok,_ = run_nb(self.path, skip_flags=cfg.tst_flags.split(), force_flags=force, basepath=cfg.config_path)
        if not ok: pytest.fail(f'a cell of {self.path.name} raised: its traceback is below', pytrace=False)
    def reportinfo(self): return self.path, None, self.path.relative_to(self.config.rootpath).as_posix()

class NotebookFile(pytest.File):
    def collect(self): yield Notebook.from_parent(self, name=self.path.stem)

def pytest_collect_file(parent, file_path):
    if file_path.suffix=='.ipynb' and file_path.name[0] not in '._' and '.ipynb_checkpoints' not in file_path.parts:
        return NotebookFile.from_parent(parent, path=file_path)
