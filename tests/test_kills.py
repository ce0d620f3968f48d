"A short round of `make kill`, and that it sees what it is there for"
import os, subprocess, sys, textwrap
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent/'tools'/'kill_test.py'
pytestmark = pytest.mark.skipif(not hasattr(os, 'fork') or not Path('/proc/self/stat').exists(), reason='kills are tested on Linux')

def test_a_short_round():
    "One or two kills of each scene: nothing lost, nothing half, no orphan, no litter"
    r = subprocess.run([sys.executable, str(TOOL), '10', '--seed', '7'], capture_output=True, text=True, timeout=280)
    assert r.returncode==0 and 'nothing was lost' in r.stdout, r.stdout+r.stderr
    assert r.stdout.count(' kills, 0 wrong, 0 orphans')==6

def test_the_tool_sees_what_is_lost():
    "A careless writer, and a worker that goes on"
    code = f'''
        import os, runpy, subprocess, sys, time
        tool = runpy.run_path({str(TOOL)!r})
        class Careless:
            longest = .3
            def setup(self, folder):
                self.file = folder/'f'
                self.file.write_text('x'*1000)
            def work(self, told):
                while True:
                    with self.file.open('w') as f:
                        time.sleep(.05)
                        f.write('x'*1000)
            def check(self, lines):
                text = self.file.read_text()
                self.file.write_text('x'*1000)
                if len(text)<1000: raise AssertionError('lost')
        class Orphans(Careless):
            def work(self, told):
                subprocess.Popen(['sleep', '600'])
                time.sleep(60)
        class Ends(Careless):
            def work(self, told): 1/0
        tool['scene'](Careless), tool['scene'](Orphans), tool['scene'](Ends)
        tool['kill_once'].__globals__['patience'] = .5
        import random
        rng = random.Random(0)
        print(len(tool['run_scene']('careless', 4, rng)[1])>0, tool['run_scene']('orphans', 1, random.Random(1)), 'ZeroDivisionError' in str(tool['run_scene']('ends', 3, rng)))
    '''
    r = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, timeout=200)
    assert r.stdout=='True (1, []) True\n', r.stdout+r.stderr
