/* Blocks of HPACK (RFC 7541), decoded; hpack.py does the same in Python, and all that is not done here: what is wrong
 * with a block it says too. */
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define FIRST_DYNAMIC 62
#define TABLE_SIZE 4096
#define ENTRY 32
#define MOST_BITS 28 /* of an integer */

Py_ssize_t decode_huffman(const uint8_t *at, Py_ssize_t size, char *to); /* huffman.c */

/* A field of a decoded block: (name, value, what make() says of them, its number, octets of a table). */
enum { NAME, VALUE, LINE, KIND, SIZE };

/* An integer whose prefix is all ones is added to *value. Returns where it ends; NULL: that is not here. */
static const uint8_t *
go_on(const uint8_t *at, const uint8_t *end, size_t *value)
{
    for (int shift = 0; at < end && shift < MOST_BITS; shift += 7) {
        *value += (size_t)(*at & 0x7f) << shift;
        if (*at++ < 0x80)
            return at;
    }
    return NULL;
}

/* A string, and where it ends; NULL without an exception: not all of it is here, or it is wrong. */
static PyObject *
string(const uint8_t **from, const uint8_t *end)
{
    const uint8_t *at = *from;
    if (at == end)
        return NULL;
    int coded = *at & 0x80;
    size_t size = *at++ & 0x7f;
    if (size == 0x7f && !(at = go_on(at, end, &size)))
        return NULL;
    if (size > (size_t)(end - at))
        return NULL;
    *from = at + size;
    if (!coded)
        return PyBytes_FromStringAndSize((const char *)at, size);
    char stack[512], *decoded = size <= sizeof stack / 2 ? stack : PyMem_Malloc(size * 8 / 5 + 1);
    if (!decoded)
        return PyErr_NoMemory();
    Py_ssize_t length = decode_huffman(at, size, decoded);
    PyObject *result = length < 0 ? NULL : PyBytes_FromStringAndSize(decoded, length);
    if (decoded != stack)
        PyMem_Free(decoded);
    return result;
}

/* Whether a value is one of a field (RFC 9113 section 8.2.1). */
static int
is_value(const uint8_t *at, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++)
        if ((at[i] < 0x20 && at[i] != '\t') || at[i] == 0x7f)
            return 0;
    return !size || (at[0] != ' ' && at[0] != '\t' && at[size - 1] != ' ' && at[size - 1] != '\t');
}

/* A field; both references are taken over. lines: the numbers of the names whose fields are lines of an echo. */
static PyObject *
field_of(PyObject *name, PyObject *value, PyObject *lines, PyObject *make)
{
    PyObject *field = NULL, *kind = PyDict_GetItemWithError(lines, name);
    char *named, *said;
    Py_ssize_t size, length;
    if (!kind && PyErr_Occurred())
        goto done;
    PyBytes_AsStringAndSize(name, &named, &size);
    PyBytes_AsStringAndSize(value, &said, &length);
    if (!kind || !is_value((const uint8_t *)said, length)) {
        field = PyObject_CallFunctionObjArgs(make, name, value, NULL);
        goto done;
    }
    PyObject *line = PyBytes_FromStringAndSize(NULL, size + length + 4);
    PyObject *octets = PyLong_FromSsize_t(size + length + ENTRY);
    if (line && octets) {
        char *to = PyBytes_AsString(line);
        memcpy(to, named, size), to += size;
        *to++ = ':', *to++ = ' ';
        memcpy(to, said, length), to += length;
        *to++ = '\r', *to = '\n';
        field = PyTuple_Pack(5, name, value, line, kind, octets);
    }
    Py_XDECREF(line), Py_XDECREF(octets);
done:
    Py_DECREF(name), Py_DECREF(value);
    return field;
}

/* The octets of a table that a field takes; -1 with an exception. */
static Py_ssize_t
octets_of(PyObject *field)
{
    PyObject *octets = PyTuple_GetItem(field, SIZE);
    return octets ? PyLong_AsSsize_t(octets) : -1;
}

/* decode_block(block, entries, size, limit, static, lines, make, most, most_fields)
 * -> (fields, entries or None where they stay as they are, size, limit), or None: for Python to look at */
PyObject *
decode_block(PyObject *module, PyObject *args)
{
    PyObject *block, *entries, *fixed, *lines, *make, *own = NULL, *result = NULL;
    Py_ssize_t size, limit, most, most_fields, gone = 0, total = 0;
    if (!PyArg_ParseTuple(args, "SO!nnO!O!Onn:decode_block", &block, &PyList_Type, &entries, &size, &limit,
                          &PyTuple_Type, &fixed, &PyDict_Type, &lines, &make, &most, &most_fields))
        return NULL;
    const uint8_t *at = (const uint8_t *)PyBytes_AsString(block), *end = at + PyBytes_Size(block);
    PyObject *fields = PyList_New(0);
    if (!fields)
        return NULL;
    while (at < end) {
        uint8_t byte = *at++;
        if ((byte & 0xe0) == 0x20) { /* section 6.3: another size of the table */
            size_t wanted = byte & 0x1f;
            if (wanted == 0x1f && !(at = go_on(at, end, &wanted)))
                goto odd;
            if (wanted > TABLE_SIZE || PyList_Size(fields))
                goto odd;
            limit = wanted;
            if (!own && !(own = PyList_GetSlice(entries, 0, PyList_Size(entries))))
                goto failed;
        } else {
            size_t prefix = byte >= 0x80 ? 0x7f : byte >= 0x40 ? 0x3f : 0x0f, index = byte & prefix;
            if (index == prefix && !(at = go_on(at, end, &index)))
                goto odd;
            PyObject *list = own ? own : entries, *named = NULL, *field;
            size_t count = PyList_Size(list);
            if (index >= FIRST_DYNAMIC) {
                if (index - FIRST_DYNAMIC >= count - gone)
                    goto odd;
                named = PyList_GetItem(list, count - 1 - (index - FIRST_DYNAMIC));
            } else if (index)
                named = PyTuple_GetItem(fixed, index);
            if (byte >= 0x80) { /* section 6.1: an indexed field */
                if (!named)
                    goto odd;
                Py_INCREF(field = named);
            } else { /* section 6.2: a literal field, with or without indexing */
                PyObject *name = named ? PyTuple_GetItem(named, NAME) : string(&at, end);
                if (!name)
                    goto odd;
                if (named)
                    Py_INCREF(name);
                PyObject *value = string(&at, end);
                if (!value) {
                    Py_DECREF(name);
                    goto odd;
                }
                if (!(field = field_of(name, value, lines, make)))
                    goto failed;
            }
            Py_ssize_t octets = octets_of(field);
            total += octets;
            int added = octets >= 0 && !PyList_Append(fields, field);
            if (added && byte < 0x80 && byte >= 0x40) {
                size += octets;
                added = (own || (own = PyList_GetSlice(entries, 0, PyList_Size(entries)))) && !PyList_Append(own, field);
            }
            Py_DECREF(field);
            if (!added)
                goto failed;
            if (total > most || PyList_Size(fields) > most_fields)
                goto odd;
        }
        for (; size > limit; gone++) { /* section 4.3: the oldest entries go until the rest fits */
            Py_ssize_t octets = octets_of(PyList_GetItem(own, gone));
            if (octets < 0)
                goto failed;
            size -= octets;
        }
    }
    if (own && gone) {
        PyObject *rest = PyList_GetSlice(own, gone, PyList_Size(own));
        Py_DECREF(own);
        if (!(own = rest))
            goto failed;
    }
    result = Py_BuildValue("(OOnn)", fields, own ? own : Py_None, size, limit);
    goto failed;
odd:
    if (!PyErr_Occurred())
        Py_INCREF(result = Py_None);
failed:
    Py_DECREF(fields), Py_XDECREF(own);
    return result;
}
