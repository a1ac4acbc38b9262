/* scan(): scan_in_python() of ordinary.py is the reference. Where this one does not return None, it returns the same. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdbool.h>
#include <string.h>

#define MOST_FIELDS 100
#define MOST_LINES 12   /* that decide */
#define LONGEST_KEY 1024
#define MOST_DIGITS 9

enum { NAME = 1, VALUE = 2, PATH = 4, VISIBLE = 8, HOST = 16, DIGIT = 32 };
static unsigned char kinds[256];

void fill_kinds(void);
PyObject *scan(PyObject *, PyObject *);

void
fill_kinds(void)
{
    for (int each = 0; each < 256; each++) {
        bool visible = each > ' ' && each < 127;
        bool digit = each >= '0' && each <= '9';
        bool letter = (each >= 'a' && each <= 'z') || (each >= 'A' && each <= 'Z');
        bool mark = visible && strchr("!#$%&'*+-.^_`|~", each) != NULL;
        kinds[each] = (unsigned char)((digit || letter || mark ? NAME : 0)
            | (visible || each == ' ' || each == '\t' || each >= 128 ? VALUE : 0) | (visible ? VISIBLE : 0)
            | (visible && each != '?' ? PATH : 0) | (digit || letter || each == '-' || each == '.' ? HOST : 0)
            | (digit ? DIGIT : 0));
    }
}

/* Past bytes of a kind. What follows the bytes of a bytes object is a NUL, which is of no kind. */
static inline const unsigned char *
skip(const unsigned char *at, int kind)
{
    while (kinds[*at] & kind)
        at++;
    return at;
}

static bool
begins(const unsigned char *at, const char *what)
{
    return strncmp((const char *)at, what, strlen(what)) == 0;
}

/* Whether a field name is another in lower case. */
static bool
is_named(const unsigned char *name, const char *other, size_t size)
{
    for (size_t each = 0; each < size; each++)
        if ((name[each] | 0x20) != other[each])
            return false;
    return true;
}

enum field { ANY, DECIDES, LENGTH, OUT_OF_THE_ORDINARY };

static enum field
field_of(const unsigned char *name, size_t size)
{
    switch (size) {
    case 4: return is_named(name, "host", 4) ? DECIDES : ANY;
    case 6: return is_named(name, "accept", 6) || is_named(name, "expect", 6) ? DECIDES : ANY;
    case 7: return is_named(name, "upgrade", 7) ? OUT_OF_THE_ORDINARY : ANY; /* its meaning is the method's too */
    case 10: return is_named(name, "connection", 10) ? DECIDES : ANY;
    case 12: return is_named(name, "content-type", 12) ? DECIDES : ANY;
    case 14: return is_named(name, "content-length", 14) ? LENGTH : ANY;
    case 16: return is_named(name, "content-encoding", 16) || is_named(name, "content-language", 16) ? DECIDES : ANY;
    case 17: return is_named(name, "transfer-encoding", 17) ? OUT_OF_THE_ORDINARY : ANY;
    default: return ANY;
    }
}

PyObject *
scan(PyObject *module, PyObject *data)
{
    (void)module;
    char *first;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &first, &size) < 0)
        return NULL;
    const unsigned char *at = (const unsigned char *)first, *end = at + size;

    /* the request line */
    if (begins(at, "GET /"))
        at += 5;
    else if (begins(at, "POST /"))
        at += 6;
    else if (begins(at, "PUT /"))
        at += 5;
    else if (begins(at, "PATCH /"))
        at += 7;
    else if (begins(at, "DELETE /"))
        at += 8;
    else
        Py_RETURN_NONE;
    if (begins(at, "healthz") || begins(at, "readyz") || begins(at, "metrics") || begins(at, ".echo"))
        Py_RETURN_NONE;
    at = skip(at, PATH);
    const unsigned char *query = NULL, *query_end = NULL;
    if (*at == '?') {
        query = at + 1;
        query_end = at = skip(query, VISIBLE);
    }
    if (!begins(at, " HTTP/1.1\r\n"))
        Py_RETURN_NONE;
    at += 11;

    const unsigned char *lines[MOST_LINES];
    size_t sizes[MOST_LINES], key_size = 0;
    int count = 0;
    bool host = false;
    if (begins(at, "Host: ") || begins(at, "host: ")) {
        const unsigned char *after = skip(at + 6, HOST);
        if (after > at + 6 && *after == ':' && kinds[after[1]] & DIGIT)
            after = skip(after + 1, DIGIT);
        if (after > at + 6 && begins(after, "\r\n")) {
            host = true;
            key_size = 1;
            at = after + 2;
        }
    }

    /* the other fields */
    Py_ssize_t length = -1;
    for (int fields = host;; fields++) {
        if (*at == '\r') {
            if (at[1] != '\n')
                Py_RETURN_NONE;
            at += 2;
            break;
        }
        const unsigned char *name = at;
        at = skip(at, NAME);
        if (at == name || *at != ':' || fields == MOST_FIELDS)
            Py_RETURN_NONE;
        enum field field = field_of(name, (size_t)(at - name));
        const unsigned char *value = at + 1;
        at = skip(value, VALUE);
        if (!begins(at, "\r\n"))
            Py_RETURN_NONE;
        if (field != ANY) {
            if (count == MOST_LINES || field == OUT_OF_THE_ORDINARY)
                Py_RETURN_NONE;
            const unsigned char *line_end = at;
            if (field == LENGTH) {
                while (*value == ' ')
                    value++;
                const unsigned char *digits = value;
                Py_ssize_t found = 0;
                for (; kinds[*digits] & DIGIT && digits - value < MOST_DIGITS; digits++)
                    found = 10 * found + (*digits - '0');
                if (length >= 0 || digits == value || digits != at)
                    Py_RETURN_NONE;
                length = found;
                line_end = name + 15;
            }
            lines[count] = name - 1; /* with the LF before it */
            sizes[count] = (size_t)(line_end - name) + 1;
            key_size += sizes[count++];
        }
        at += 2;
    }
    if (end - at != (length < 0 ? 0 : length) || key_size > LONGEST_KEY)
        Py_RETURN_NONE;

    char key[LONGEST_KEY];
    size_t filled = 0;
    for (int each = 0; each < count; each++) {
        memcpy(key + filled, lines[each], sizes[each]);
        filled += sizes[each];
    }
    if (host)
        key[filled] = '\n';
    Py_ssize_t section = at - (const unsigned char *)first;
    if (query == NULL)
        return Py_BuildValue("y#nO", key, (Py_ssize_t)key_size, section, Py_None);
    return Py_BuildValue("y#ny#", key, (Py_ssize_t)key_size, section, query, (Py_ssize_t)(query_end - query));
}
