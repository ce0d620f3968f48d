"Make or refresh the virtual environment that the Makefile's targets run in (`python tools/setup_env.py .venv`), and find a browser (`--browser`)"
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_WHEELS = 'https://download.pytorch.org/whl/cpu'
OLDEST,NEWEST = (3, 10), (3, 13)

def say(s): print(s, flush=True)
def fail(s): sys.exit(f'\ntextnb: {s}')
def is_root(): return hasattr(os, 'geteuid') and os.geteuid()==0

def pin(name):
    "The line of constraints.txt that pins `name`"
    return re.search(rf'^{name}==\S+', (ROOT/'constraints.txt').read_text(encoding='utf-8'), re.M)[0]

def apt(*pkgs):
    "Install Debian packages where that is ours to do: as root, with apt-get; says whether it worked"
    if not (is_root() and shutil.which('apt-get')): return False
    say(f'  installing {" ".join(pkgs)} with apt-get ...')
    env = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'}
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    subprocess.run(['apt-get', 'update'], **quiet)
    return subprocess.run(['apt-get', 'install', '-y', '--no-install-recommends', *pkgs], **quiet).returncode==0

def works(py):
    "Whether the interpreter `py` starts, has pip and is neither too old nor too new"
    if not Path(py).exists(): return False
    src = f'import sys, pip; sys.exit(not {OLDEST}<=sys.version_info[:2]<={NEWEST})'
    return subprocess.run([str(py), '-c', src], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode==0

def create(venv):
    "A virtual environment in the folder `venv`, unless a working one is there"
    py = venv/'bin'/'python'
    if works(py): return py
    if venv.exists(): say(f'  {venv} does not work (moved, half made, or of another Python): making it anew')
    def attempt(): return subprocess.run([sys.executable, '-m', 'venv', '--clear', str(venv)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    v = f'{sys.version_info[0]}.{sys.version_info[1]}'
    r = attempt()
    if r.returncode and (apt(f'python{v}-venv') or apt('python3-venv')): r = attempt()
    if r.returncode or not works(py):
        fail(f'{sys.executable} could not make a virtual environment. On Debian and Ubuntu: apt-get install python{v}-venv\n{r.stdout}')
    return py

def torch_args():
    "Where torch comes from: `TORCH_INDEX`, the pip settings of this machine, or PyTorch's CPU wheels on a Linux machine with no NVIDIA driver"
    index = os.environ.get('TORCH_INDEX')
    if index is None and sys.platform=='linux' and not shutil.which('nvidia-smi'):
        cfg = subprocess.run([sys.executable, '-m', 'pip', 'config', 'list'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        keys = 'index-url', 'extra-index-url', 'find-links', 'no-index'
        own = any(k in cfg for k in keys) or any(f'PIP_{k.upper().replace("-", "_")}' in os.environ for k in keys)
        if not own: index = CPU_WHEELS
    return ['--extra-index-url', index] if index else []

def pip(py, log, *args):
    "Run pip, one line for each large download, all the rest in the file `log`"
    cmd = [str(py), '-m', 'pip', 'install', '--disable-pip-version-check', '--progress-bar', 'off', '-c', str(ROOT/'constraints.txt'), *args]
    n,tail,tty = 0,[],sys.stdout.isatty()
    with open(log, 'a', encoding='utf-8') as f, subprocess.Popen(cmd, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace') as p:
        for l in p.stdout:
            f.write(l)
            tail = (tail+[l])[-25:]
            got = re.match(r'\s*(?:Collecting|Requirement already satisfied:) ([\w.-]+)', l)
            big = re.match(r'\s*Downloading (?:\S*/)?([\w.]+?-[\w.+]+?)-\S+ \((\d+)(?:\.\d+)? ([MG]B)\)', l)
            if got:
                n += 1
                if tty: print(f'\r\033[K  {n} packages looked at: {got[1]}', end='', flush=True)
            elif big and (big[3]=='GB' or int(big[2])>=8): say(f'{chr(13)+chr(27)+"[K" if tty else ""}  downloading {big[1]} ({big[2]} {big[3]})')
            elif 'Installing collected' in l: say(f'{chr(13)+chr(27)+"[K" if tty else ""}  unpacking {l.count(",")+1} packages')
    if tty: print('\r\033[K', end='', flush=True)
    if p.returncode:
        fail(f'pip could not install what textnb needs. Its last words (all of them are in {log}):\n{"".join(tail)}\n'
             'A line that stopped? Run the same command again: it goes on from here.')

def browser():
    "Chromium for the tests that look at pages; without one they are skipped, and say so"
    names = 'chromium', 'chromium-browser', 'google-chrome'
    if os.environ.get('CHROMIUM') or any(map(shutil.which, names)): return
    say('== Chromium, for the tests that open pages in a browser')
    if not apt('chromium'): say('  none here: those tests will be skipped (install chromium, or name one in the variable CHROMIUM)')

def main(venv='.venv'):
    if not OLDEST<=sys.version_info[:2]<=NEWEST:
        fail(f'Python 3.10 to 3.13 is needed, and {sys.executable} is {sys.version.split()[0]}. Name another: make PYTHON=/path/to/python3.12 ...')
    venv,start = Path(venv).absolute(),time.time()
    new = not (venv/'.ready').exists()
    say(f'== {"Making" if new else "Refreshing"} the environment {venv.name} with Python {sys.version.split()[0]}{" (once; some minutes on a slow line)" if new else ""}')
    py,log = create(venv),venv/'pip.log'
    say(f'  torch ({pin("torch")})')
    pip(py, log, pin('torch'), *torch_args())
    say('  textnb and its tools')
    pip(py, log, '-e', '.[dev]')
    (venv/'.ready').write_text(f'{time.time():.0f}\n', encoding='utf-8')
    say(f'  ready in {time.time()-start:.0f} s')

if __name__=='__main__': browser() if '--browser' in sys.argv else main(*sys.argv[1:])
