/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a command and writes what it took: "WALL_MS CPU_MS PEAK_KIB". */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    struct timespec begin, end;
    struct rusage usage;
    int status;
    if (argc < 3) {
        (void)fputs("usage: peak_rss FILE COMMAND [ARGUMENT]...\n", stderr);
        return 2;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    pid_t pid = fork();
    if (pid == 0) {
        (void)execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid) {
        perror("peak_rss");
        return 99;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    double wall = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    double cpu = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    FILE *to = fopen(argv[1], "w");
    if (!to || fprintf(to, "%.0f %.0f %ld\n", wall * 1e3, cpu * 1e3, usage.ru_maxrss) < 0 ||
        fclose(to) != 0) {
        perror(argv[1]);
        return 99;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
