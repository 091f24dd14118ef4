"""Validates SAML messages against the schemas of OASIS, as pysaml2 ships them. usage: schemas.py FOLDER"""

import pathlib
import sys

from saml2.xml.schema import validate

files = sorted(pathlib.Path(sys.argv[1]).glob("*.xml"))
for file in files:
    try:
        validate(file.read_text(encoding="utf-8"))
    except Exception as why:
        sys.exit(f"{file.name}: {why}")
    print(f"{file.name} is valid")
if len(files) < 6:
    sys.exit("too few")
# A schema that takes everything shows nothing.
broken = files[0].read_text(encoding="utf-8").replace('Version="2.0"', "")
try:
    validate(broken)
except Exception:
    pass
else:
    sys.exit("a message without a version was valid")
