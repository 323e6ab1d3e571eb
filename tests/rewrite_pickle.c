/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the value graph of a PyTorch file and writes it as a pickle: for tests/interop. */
#include <stdio.h>

#include "torch/file.h"
#include "torch/node_write.h"

int main(int argc, char **argv)
{
    struct uz_limits limits;
    struct uz_torch_file *file;
    struct uz_bytes bytes = {0};
    struct uz_error err;
    const struct uz_node_write_options options = {.limits = &limits};
    if (argc != 2) {
        fprintf(stderr, "usage: rewrite_pickle FILE >PICKLE\n");
        return 2;
    }
    uz_limits_default(&limits);
    int rc = uz_torch_open(&file, argv[1], &limits, &err);
    if (rc == UZ_OK) {
        rc = uz_pickle_write_node(&bytes, uz_torch_root(file), &options, &err);
        uz_torch_close(file);
    }
    if (rc < 0)
        fprintf(stderr, "%s\n", err.message);
    bool written = rc == UZ_OK && fwrite(bytes.data, 1, bytes.n, stdout) == bytes.n;
    uz_bytes_free(&bytes);
    return written && fclose(stdout) == 0 ? 0 : 1;
}
