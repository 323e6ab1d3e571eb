/* SPDX-License-Identifier: Apache-2.0 */
/* Pickle opcodes that carry a value in their argument: numbers and texts, binary and as lines. */
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "torch/opcodes.h"
#include "torch/pickle_vm.h"

/* Longest line of digits that is looked at; no number of 64 bits needs more. */
enum { MAX_NUMBER_LINE = 400 };

int uz_op_none(struct uz_vm *vm)
{
    struct uz_node *node;
    return uz_vm_push_new(vm, UZ_NODE_NONE, &node);
}

int uz_op_bool(struct uz_vm *vm)
{
    struct uz_node *node;
    UZ_TRY(uz_vm_push_new(vm, UZ_NODE_BOOL, &node));
    node->u.boolean = vm->opcode == UZ_OP_NEWTRUE;
    return UZ_OK;
}

static int push_int(struct uz_vm *vm, int64_t value)
{
    struct uz_node *node;
    UZ_TRY(uz_vm_push_new(vm, UZ_NODE_INT, &node));
    node->u.integer = value;
    return UZ_OK;
}

int uz_op_binint(struct uz_vm *vm)
{
    uint8_t small;
    uint16_t medium;
    uint32_t large;

    switch (vm->opcode) {
    case UZ_OP_BININT1:
        UZ_TRY(uz_get_u8(vm->cur, &small, vm->err));
        return push_int(vm, small);
    case UZ_OP_BININT2:
        UZ_TRY(uz_get_le16(vm->cur, &medium, vm->err));
        return push_int(vm, medium);
    default:
        UZ_TRY(uz_get_le32(vm->cur, &large, vm->err));
        return push_int(vm, (int32_t)large);
    }
}

/* Copies text of the stream into a node; a terminator is added so that C strings can be made. */
static int set_text(struct uz_vm *vm, struct uz_text *text, const void *data, uint64_t nbytes)
{
    UZ_TRY(uz_arena_strndup(vm->arena, data, (size_t)nbytes, &text->data, vm->err));
    text->nbytes = (size_t)nbytes;
    return UZ_OK;
}

/* Number of bytes that matter in a little-endian two's complement number. */
static uint64_t significant_bytes(const uint8_t *data, uint64_t nbytes)
{
    while (nbytes > 1) {
        uint8_t top = data[nbytes - 1], below = data[nbytes - 2];
        if (!((top == 0 && below < 0x80) || (top == 0xff && below >= 0x80)))
            break;
        nbytes--;
    }
    return nbytes;
}

int uz_op_long(struct uz_vm *vm)
{
    uint64_t nbytes;
    if (vm->opcode == UZ_OP_LONG1) {
        uint8_t n;
        UZ_TRY(uz_get_u8(vm->cur, &n, vm->err));
        nbytes = n;
    } else {
        uint32_t n;
        UZ_TRY(uz_get_le32(vm->cur, &n, vm->err));
        if (n > INT32_MAX)
            return uz_vm_fail(vm, UZ_CORRUPT, "an integer of negative length");
        nbytes = n;
    }
    const uint8_t *data;
    UZ_TRY(uz_get_bytes(vm->cur, nbytes, &data, vm->err));
    nbytes = significant_bytes(data, nbytes);
    if (nbytes > 8) {
        struct uz_node *node;
        UZ_TRY(uz_vm_push_new(vm, UZ_NODE_BIGINT, &node));
        return set_text(vm, &node->u.text, data, nbytes);
    }
    uint64_t value = nbytes > 0 && data[nbytes - 1] >= 0x80 ? UINT64_MAX : 0;
    for (uint64_t i = nbytes; i > 0; i--)
        value = value << 8 | data[i - 1];
    return push_int(vm, (int64_t)value);
}

static int push_real(struct uz_vm *vm, double value)
{
    struct uz_node *node;
    UZ_TRY(uz_vm_push_new(vm, UZ_NODE_FLOAT, &node));
    node->u.real = value;
    return UZ_OK;
}

int uz_op_binfloat(struct uz_vm *vm)
{
    uint64_t bits;
    double value;
    UZ_TRY(uz_get_be64(vm->cur, &bits, vm->err));
    memcpy(&value, &bits, sizeof value);
    return push_real(vm, value);
}

/* UTF-8 in which surrogates may stand alone, as Python writes them in pickles. */
static bool is_pickle_utf8(const uint8_t *data, uint64_t nbytes)
{
    size_t n_ascii = uz_ascii_prefix(data, (size_t)nbytes);
    data += n_ascii;
    nbytes -= n_ascii;
    while (nbytes > 0) {
        size_t n = uz_utf8_char(data, (size_t)nbytes);
        if (n == 0 && nbytes >= 3 && data[0] == 0xed && data[1] >= 0xa0 && data[1] <= 0xbf &&
            data[2] >= 0x80 && data[2] <= 0xbf)
            n = 3;
        if (n == 0)
            return false;
        data += n;
        nbytes -= n;
    }
    return true;
}

/* What the opcodes of one text have before it, and what they make. */
struct text_form {
    unsigned size_bytes; /* width of the length: 1, 4 or 8 */
    bool is_signed;      /* BINSTRING alone has a signed length */
    enum uz_node_kind kind;
};

static struct text_form form_of(uint8_t opcode)
{
    switch (opcode) {
    case UZ_OP_SHORT_BINUNICODE:
        return (struct text_form){1, false, UZ_NODE_STR};
    case UZ_OP_BINUNICODE:
        return (struct text_form){4, false, UZ_NODE_STR};
    case UZ_OP_BINUNICODE8:
        return (struct text_form){8, false, UZ_NODE_STR};
    case UZ_OP_SHORT_BINBYTES:
        return (struct text_form){1, false, UZ_NODE_BYTES};
    case UZ_OP_BINBYTES:
        return (struct text_form){4, false, UZ_NODE_BYTES};
    case UZ_OP_BINBYTES8:
        return (struct text_form){8, false, UZ_NODE_BYTES};
    case UZ_OP_BYTEARRAY8:
        return (struct text_form){8, false, UZ_NODE_BYTEARRAY};
    case UZ_OP_SHORT_BINSTRING:
        return (struct text_form){1, false, UZ_NODE_STR};
    default:
        return (struct text_form){4, true, UZ_NODE_STR};
    }
}

static int get_length(struct uz_vm *vm, unsigned size_bytes, uint64_t *nbytes)
{
    uint8_t small;
    uint32_t medium;

    switch (size_bytes) {
    case 1:
        UZ_TRY(uz_get_u8(vm->cur, &small, vm->err));
        *nbytes = small;
        return UZ_OK;
    case 4:
        UZ_TRY(uz_get_le32(vm->cur, &medium, vm->err));
        *nbytes = medium;
        return UZ_OK;
    default:
        return uz_get_le64(vm->cur, nbytes, vm->err);
    }
}

int uz_op_text(struct uz_vm *vm)
{
    const struct text_form form = form_of(vm->opcode);
    enum uz_node_kind kind = form.kind;
    const uint8_t *data;
    uint64_t nbytes;

    UZ_TRY(get_length(vm, form.size_bytes, &nbytes));
    if (form.is_signed && nbytes > INT32_MAX)
        return uz_vm_fail(vm, UZ_CORRUPT, "a text of negative length");
    UZ_TRY(uz_get_bytes(vm->cur, nbytes, &data, vm->err));
    if (kind == UZ_NODE_STR && !is_pickle_utf8(data, nbytes)) {
        /* Python 2 wrote text and bytes alike as (SHORT_)BINSTRING. */
        if (vm->opcode != UZ_OP_BINSTRING && vm->opcode != UZ_OP_SHORT_BINSTRING)
            return uz_vm_fail(vm, UZ_CORRUPT, "a text that is not UTF-8");
        kind = UZ_NODE_BYTES;
    }
    struct uz_node *node;
    UZ_TRY(uz_vm_push_new(vm, kind, &node));
    return set_text(vm, &node->u.text, data, nbytes);
}

/* The next line, terminated, in a buffer of MAX_NUMBER_LINE + 1 bytes. */
static int number_line(struct uz_vm *vm, char *buf)
{
    const uint8_t *line;
    uint64_t nbytes;
    UZ_TRY(uz_get_line(vm->cur, &line, &nbytes, vm->err));
    if (nbytes == 0 || nbytes > MAX_NUMBER_LINE || memchr(line, '\0', (size_t)nbytes))
        return uz_vm_fail(vm, UZ_CORRUPT, "a line that is no number");
    memcpy(buf, line, (size_t)nbytes);
    buf[nbytes] = '\0';
    return UZ_OK;
}

/* INT and LONG of protocol 0: "12\n", "12L\n", and the booleans "00\n" and "01\n". */
int uz_op_int_line(struct uz_vm *vm)
{
    char line[MAX_NUMBER_LINE + 1];
    UZ_TRY(number_line(vm, line));
    if (vm->opcode == UZ_OP_INT && (!strcmp(line, "00") || !strcmp(line, "01"))) {
        struct uz_node *node;
        UZ_TRY(uz_vm_push_new(vm, UZ_NODE_BOOL, &node));
        node->u.boolean = line[1] == '1';
        return UZ_OK;
    }
    size_t n = strlen(line);
    if (vm->opcode == UZ_OP_LONG && line[n - 1] == 'L')
        line[--n] = '\0';
    size_t sign = line[0] == '-' ? 1 : 0;
    if (n == sign || strspn(line + sign, "0123456789") != n - sign)
        return uz_vm_fail(vm, UZ_CORRUPT, "a line that is no number");
    errno = 0;
    long long value = strtoll(line, NULL, 10);
    if (errno == ERANGE)
        return uz_vm_fail(vm, UZ_UNSUPPORTED, "an integer of more than 64 bits in text form");
    return push_int(vm, value);
}

int uz_op_float_line(struct uz_vm *vm)
{
    char line[MAX_NUMBER_LINE + 1], *end;
    UZ_TRY(number_line(vm, line));
    /* The decimal point must be a point whatever the program's locale says. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0)
        return uz_fail_nomem(vm->err, sizeof plain);
    locale_t old = uselocale(plain);
    double value = strtod(line, &end);
    uselocale(old);
    freelocale(plain);
    if (*end != '\0' || end == line)
        return uz_vm_fail(vm, UZ_CORRUPT, "a line that is no number");
    return push_real(vm, value);
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The value of exactly n hexadecimal digits, -1 if they are not there. */
static int64_t hex_value(const uint8_t *data, uint64_t left, unsigned n)
{
    int64_t value = 0;
    if (left < n)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        int digit = hex_digit(data[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static size_t put_utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* UNICODE of protocol 0: Latin-1 bytes in which only \uXXXX and \UXXXXXXXX are escapes. */
int uz_op_unicode_line(struct uz_vm *vm)
{
    const uint8_t *line;
    uint64_t nbytes;
    UZ_TRY(uz_get_line(vm->cur, &line, &nbytes, vm->err));
    struct uz_node *node;
    UZ_TRY(uz_vm_push_new(vm, UZ_NODE_STR, &node));
    char *text; /* one byte of a line gives two bytes of UTF-8 at most */
    UZ_TRY(uz_arena_alloc(vm->arena, nbytes * 2 + 1, 1, &text, vm->err));
    size_t n = 0;
    for (uint64_t i = 0; i < nbytes;) {
        uint8_t next = line[i] == '\\' && i + 1 < nbytes ? line[i + 1] : 0;
        if (next != 'u' && next != 'U') {
            n += put_utf8(text + n, line[i++]);
            continue;
        }
        unsigned digits = next == 'u' ? 4 : 8;
        int64_t code = hex_value(line + i + 2, nbytes - i - 2, digits);
        if (code < 0 || code > 0x10ffff)
            return uz_vm_fail(vm, UZ_CORRUPT, "a broken \\u escape");
        n += put_utf8(text + n, (uint32_t)code);
        i += 2 + digits;
    }
    text[n] = '\0';
    node->u.text = (struct uz_text){text, n};
    return UZ_OK;
}

/* One escape of a Python 2 string literal; gives the bytes it took, 0 if it is broken. */
static uint64_t unescape(const uint8_t *data, uint64_t left, char *out)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    if (left < 2)
        return 0;
    const char *at = data[1] ? strchr(from, data[1]) : NULL;
    if (at) {
        *out = to[at - from];
        return 2;
    }
    if (data[1] == 'x') {
        int64_t code = hex_value(data + 2, left - 2, 2);
        *out = (char)code;
        return code < 0 ? 0 : 4;
    }
    unsigned value = 0, n = 0;
    while (n < 3 && 1 + n < left && data[1 + n] >= '0' && data[1 + n] <= '7')
        value = value * 8 + (data[1 + n++] - (unsigned)'0');
    *out = (char)(value & 0xff);
    return n ? 1 + n : 0;
}

/* STRING of protocol 0: a quoted Python 2 string literal. */
int uz_op_string_line(struct uz_vm *vm)
{
    const uint8_t *line;
    uint64_t nbytes;
    UZ_TRY(uz_get_line(vm->cur, &line, &nbytes, vm->err));
    if (nbytes < 2 || line[0] != line[nbytes - 1] || (line[0] != '\'' && line[0] != '"'))
        return uz_vm_fail(vm, UZ_CORRUPT, "a string without quotes");
    char *text;
    UZ_TRY(uz_arena_alloc(vm->arena, nbytes, 1, &text, vm->err));
    size_t n = 0;
    for (uint64_t i = 1; i < nbytes - 1; n++) {
        uint64_t took = 1;
        text[n] = (char)line[i];
        if (line[i] == '\\')
            took = unescape(line + i, nbytes - 1 - i, &text[n]);
        if (took == 0)
            return uz_vm_fail(vm, UZ_CORRUPT, "a broken escape in a string");
        i += took;
    }
    text[n] = '\0';
    bool is_text = is_pickle_utf8((const uint8_t *)text, n);
    struct uz_node *node;
    UZ_TRY(uz_vm_push_new(vm, is_text ? UZ_NODE_STR : UZ_NODE_BYTES, &node));
    node->u.text = (struct uz_text){text, n};
    return UZ_OK;
}

int uz_vm_line_index(struct uz_vm *vm, uint64_t *index)
{
    char line[MAX_NUMBER_LINE + 1];
    UZ_TRY(number_line(vm, line));
    errno = 0;
    unsigned long long value = strtoull(line, NULL, 10);
    if (strspn(line, "0123456789") != strlen(line) || errno == ERANGE)
        return uz_vm_fail(vm, UZ_CORRUPT, "a line that is no memo index");
    *index = value;
    return UZ_OK;
}

int uz_vm_line_global(struct uz_vm *vm, struct uz_node **out)
{
    const uint8_t *module, *name;
    uint64_t module_nbytes, name_nbytes;
    UZ_TRY(uz_get_line(vm->cur, &module, &module_nbytes, vm->err));
    UZ_TRY(uz_get_line(vm->cur, &name, &name_nbytes, vm->err));
    if (!is_pickle_utf8(module, module_nbytes) || !is_pickle_utf8(name, name_nbytes))
        return uz_vm_fail(vm, UZ_CORRUPT, "the name of a class that is not UTF-8");
    UZ_TRY(uz_vm_node(vm, UZ_NODE_GLOBAL, out));
    UZ_TRY(set_text(vm, &(*out)->u.global.module, module, module_nbytes));
    UZ_TRY(set_text(vm, &(*out)->u.global.name, name, name_nbytes));
    return uz_vm_list(vm, *out);
}
