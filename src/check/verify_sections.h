/* SPDX-License-Identifier: Apache-2.0 */
/* The runs of bytes that a pass over the data reads, and what was found in them. */
#ifndef UZ_CHECK_VERIFY_SECTIONS_H
#define UZ_CHECK_VERIFY_SECTIONS_H

#include "base/packing.h"
#include "check/verify_run.h"

/* A zip entry, a storage of the older container, or a file that can only be read as a stream. */
struct uz_section {
    size_t record;
    enum uz_packing packing;
    uint64_t storage; /* as in struct uz_span; ignored for UZ_PACKED_ZSTD */
    uint64_t nbytes;  /* to be read from the file */
    bool has_crc;
    uint32_t crc;       /* as the directory has it */
    char *name;         /* of the entry; NULL if it has none */
    uint64_t first_job; /* jobs of the section: chunks of UZ_SECTION_CHUNK bytes, or one stream */
    uint64_t n_jobs;
};

enum { UZ_SECTION_CHUNK = 4 << 20 };

struct uz_sections {
    struct uz_section *items;
    size_t n, cap;
    uint64_t n_jobs, nbytes;
};

struct uz_spans;

/* Adds the sections of a record that was opened. */
int uz_sections_add(struct uz_sections *sections, struct uz_verify_run *run, size_t record,
                    const struct uz_spans *spans, struct uz_error *err);

void uz_sections_free(struct uz_sections *sections);

/* The section that a job is of. */
struct uz_section *uz_section_of(const struct uz_sections *sections, uint64_t job);

#endif
