/* SPDX-License-Identifier: Apache-2.0 */
/* How the bytes of a storage are packed in its file. */
#ifndef UZ_BASE_PACKING_H
#define UZ_BASE_PACKING_H

enum uz_packing {
    UZ_PACKED_STORED,  /* as they are: can be read at any place */
    UZ_PACKED_DEFLATE, /* in a deflated zip entry: from front to back */
    UZ_PACKED_ZSTD,    /* in a file compressed whole: from front to back */
};

#endif
