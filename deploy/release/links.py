"""For make: fails if a relative link of a Markdown file leads to no file: links.py FOLDER"""

import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
dead = [
    f"{file.relative_to(root)}: {target}"
    for file in sorted(root.rglob("*.md"))
    for target in re.findall(r"\]\(([^)\s#]+)[^)\s]*\)", file.read_text())
    if ":" not in target and not (file.parent / target).exists()
]
if dead:
    sys.exit("dead links in the archive:\n" + "\n".join(dead))
