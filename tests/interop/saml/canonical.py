"""Compares our canonical forms with libxml2's, byte for byte. usage: canonical.py FILE

FILE holds a line of JSON for each case, as `random_documents_for_another_canonicalizer` writes it: a document, the position of
one of its elements, the prefixes to keep, and what we make of it. libxml2 is asked by ctypes: lxml loses `#default`, and copies
an element out of its namespaces.
"""

import ctypes
import ctypes.util
import json
import sys

EXCLUSIVE = 1           # XML_C14N_EXCLUSIVE_1_0
QUIET = 1 << 5 | 1 << 6  # XML_PARSE_NOERROR, XML_PARSE_NOWARNING

xml = ctypes.CDLL(ctypes.util.find_library("xml2") or "libxml2.so.2")
pointer = ctypes.c_void_p


class XPathObject(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("nodes", pointer)]


def function(name, result, *arguments):
    found = getattr(xml, name)
    found.restype, found.argtypes = result, arguments
    return found


read_memory = function("xmlReadMemory", pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
free_doc = function("xmlFreeDoc", None, pointer)
new_context = function("xmlXPathNewContext", pointer, pointer)
free_context = function("xmlXPathFreeContext", None, pointer)
evaluate = function("xmlXPathEvalExpression", ctypes.POINTER(XPathObject), ctypes.c_char_p, pointer)
free_object = function("xmlXPathFreeObject", None, ctypes.POINTER(XPathObject))
dump = function(
    "xmlC14NDocDumpMemory", ctypes.c_int, pointer, pointer, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p), ctypes.c_int,
    ctypes.POINTER(pointer),
)
free = ctypes.CFUNCTYPE(None, pointer)(ctypes.c_void_p.in_dll(xml, "xmlFree").value)


def canonical(case):
    text = case["xml"].encode()
    document = read_memory(text, len(text), None, None, QUIET)
    if not document:
        raise ValueError("libxml2 does not parse it")
    context = new_context(document)
    element = f"(//*)[{case['element'] + 1}]"
    # An element with all that belongs to it: XPath counts attributes and namespaces among the nodes.
    expression = (
        f"{element}/descendant-or-self::node() | {element}/descendant-or-self::*/@* | "
        f"{element}/descendant-or-self::*/namespace::*"
    )
    found = evaluate(expression.encode(), context)
    prefixes = [prefix.encode() or b"#default" for prefix in case["prefixes"]]
    kept = (ctypes.c_char_p * (len(prefixes) + 1))(*prefixes, None)
    out = pointer()
    length = dump(document, found.contents.nodes, EXCLUSIVE, kept, 0, ctypes.byref(out))
    form = ctypes.string_at(out, length).decode() if length >= 0 else None
    if out:
        free(out)
    free_object(found)
    free_context(context)
    free_doc(document)
    return form


def main():
    compared = 0
    with open(sys.argv[1], encoding="utf-8") as file:
        for line in file:
            case = json.loads(line)
            theirs = canonical(case)
            if theirs != case["canonical"]:
                sys.exit(f"{case}\nlibxml2 writes {theirs}")
            compared += 1
    print(f"{compared} canonical forms are the same")
    if compared < 20_000:
        sys.exit("too few")


main()
