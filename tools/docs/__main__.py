"`python -m tools.docs [node_modules] [--force]`: build the site, and print what is wrong with it"
import sys

from tools.docs.build import build_site


def main(argv):
    "Build the site; the result is the number of warnings, at most 100"
    folders = [o for o in argv if o!='--force']
    dest, warnings = build_site(node_modules=folders[0] if folders else None, force='--force' in argv)
    for warning in warnings: print('warning:', warning, file=sys.stderr)
    pages = len(list(dest.rglob('*.html')))
    print(f'{pages} pages in {dest.name}/, {len(warnings)} warnings. Open {dest.name}/index.html, or: python -m http.server -d {dest.name}')
    return min(len(warnings), 100)


if __name__=='__main__': sys.exit(main(sys.argv[1:]))
