"""The Python examples of a chapter as they stand there: document, chapter, host and port, model.

Tells the lines that they print.
"""

import json
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

document, chapter, host, model = sys.argv[1:]
text = Path(document).read_text(encoding="utf-8").split(f"\n## {chapter}\n")[1].split("\n## ")[0]
code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
code = code.replace("localhost:8000", host).replace('"weather"', f'"{model}"')
with redirect_stdout(StringIO()) as printed:
    exec(compile(code, document, "exec"), {"__name__": "__main__"})
print(json.dumps(printed.getvalue().splitlines()))
