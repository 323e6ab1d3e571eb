/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 by the table of RFC 3629 section 4. */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

static bool is_tail(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

size_t uz_utf8_char(const unsigned char *text, size_t nbytes)
{
    if (nbytes == 0)
        return 0;
    unsigned char lead = text[0];
    if (lead < 0x80)
        return 1;
    size_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || nbytes < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if (!is_tail(text[i]))
            return 0;
    /* the first tail byte excludes overlong forms, surrogates, and values past U+10FFFF */
    unsigned char second = text[1];
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
        (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
        return 0;
    return n;
}

size_t uz_ascii_prefix(const unsigned char *text, size_t nbytes)
{
    size_t i = 0;
    for (uint64_t word; nbytes - i >= sizeof word; i += sizeof word) {
        memcpy(&word, text + i, sizeof word);
        if (word & 0x8080808080808080u)
            break;
    }
    while (i < nbytes && text[i] < 0x80)
        i++;
    return i;
}

bool uz_utf8_valid(const char *text, size_t nbytes)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i = uz_ascii_prefix(p, nbytes);
    while (i < nbytes) {
        size_t n = uz_utf8_char(p + i, nbytes - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}
