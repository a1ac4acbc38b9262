/* The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), decoded; hpack.py does the same in Python. */
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>

/* The symbols in the order of their codes, which count up; those of one length follow each other. */
static const uint8_t symbols[256] = {
     48,  49,  50,  97,  99, 101, 105, 111, 115, 116,  32,  37,  45,  46,  47,  51,  52,  53,  54,  55,
     56,  57,  61,  65,  95,  98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117,  58,  66,  67,  68,
     69,  70,  71,  72,  73,  74,  75,  76,  77,  78,  79,  80,  81,  82,  83,  84,  85,  86,  87,  89,
    106, 107, 113, 118, 119, 120, 121, 122,  38,  42,  44,  59,  88,  90,  33,  34,  40,  41,  63,  39,
     43, 124,  35,  62,   0,  36,  64,  91,  93, 126,  94, 125,  60,  96, 123,  92, 195, 208, 128, 130,
    131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230, 129,
    132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
    196, 198, 228, 232, 233,   1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157,
    158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239,   9, 142, 144, 145, 148, 159,
    171, 206, 215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219,
    238, 240, 242, 243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250,
    251, 252, 253, 254,   2,   3,   4,   5,   6,   7,   8,  11,  12,  14,  15,  16,  17,  18,  19,  20,
     21,  23,  24,  25,  26,  27,  28,  29,  30,  31, 127, 220, 249,  10,  13,  22,
};
static const uint8_t lengths[][2] = { /* bits of a code, and how many codes have as many */
    {5, 10}, {6, 26}, {7, 32}, {8, 6}, {10, 5}, {11, 3}, {12, 2}, {13, 6}, {14, 2}, {15, 3}, {19, 3},
    {20, 8}, {21, 13}, {22, 26}, {23, 29}, {24, 12}, {25, 4}, {26, 15}, {27, 19}, {28, 29}, {30, 3},
};
#define GROUPS (sizeof lengths / sizeof *lengths)
#define SHORT 8

static uint32_t beyond[GROUPS]; /* the first code, in the upper bits of 32, that is longer than those of a group */
static uint8_t first[GROUPS];   /* of each group in symbols */
static uint32_t begin[GROUPS];
static uint8_t quick[1 << SHORT][2]; /* by the next bits: the symbol, and the bits of its code; 0: it is longer */

void
fill_huffman(void)
{
    uint32_t code = 0;
    int place = 0;
    for (size_t group = 0; group < GROUPS; group++) {
        int bits = lengths[group][0];
        first[group] = place, begin[group] = code;
        for (int i = 0; i < lengths[group][1]; i++, place++, code += 1u << (32 - bits))
            if (bits <= SHORT)
                for (uint32_t next = code >> (32 - SHORT), most = next + (1u << (SHORT - bits)); next < most; next++)
                    quick[next][0] = symbols[place], quick[next][1] = bits;
        beyond[group] = code;
    }
}

/* Decodes to a place with room for size * 8 / 5 bytes, since no code has less than five bits. Returns how many bytes it
 * was; -1: the padding is wrong, or the end of a string is in it. */
Py_ssize_t
decode_huffman(const uint8_t *at, Py_ssize_t size, char *to)
{
    const uint8_t *end = at + size;
    char *begun = to;
    uint64_t bits = 0; /* those that have been read and not been decoded, from the highest on */
    int have = 0;
    for (;;) {
        while (have <= 56 && at < end)
            bits |= (uint64_t)*at++ << (56 - have), have += 8;
        uint32_t next = bits >> 32;
        const uint8_t *found = quick[next >> (32 - SHORT)];
        int length = found[1];
        uint8_t symbol = found[0];
        if (!length) {
            size_t group = 0;
            while (group < GROUPS && next >= beyond[group])
                group++;
            if (group == GROUPS) /* thirty ones or more: the end of a string, or padding */
                break;
            length = lengths[group][0];
            symbol = symbols[first[group] + ((next - begin[group]) >> (32 - length))];
        }
        if (length > have)
            break;
        *to++ = symbol;
        bits <<= length, have -= length;
    }
    /* what is left is padding: the beginning of a code that is all ones, and less than a byte */
    return have < 8 && bits >> 56 == (0xff00u >> have & 0xff) ? to - begun : -1;
}

/* huffman(data: bytes) -> bytes | None: None where the code is wrong. */
PyObject *
huffman(PyObject *module, PyObject *data)
{
    char *bytes, stack[1024];
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &bytes, &size) < 0)
        return NULL;
    char *decoded = size <= (Py_ssize_t)sizeof stack / 2 ? stack : PyMem_Malloc(size * 8 / 5 + 1);
    if (!decoded)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    Py_ssize_t length = decode_huffman((const uint8_t *)bytes, size, decoded);
    if (length < 0)
        Py_INCREF(result = Py_None);
    else
        result = PyBytes_FromStringAndSize(decoded, length);
    if (decoded != stack)
        PyMem_Free(decoded);
    return result;
}
