/* The kernel's log below the host root: XIDs appear there as the kernel module prints them.
 *
 * A plain file in place of the device /dev/kmsg, with the same records: "LEVEL,SEQUENCE,MICROSECONDS,-;TEXT", one a
 * line (Documentation/ABI/testing/dev-kmsg). Text as in the open kernel modules, kernel_rc.c.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simulator.h"

enum { LEVEL = 4, PATH_SIZE = 2 * MAX_PATH }; /* facility 0, the kernel's, and level "warning" */

static bool path_of(const State *state, char *path)
{
    if (state->root[0] == '\0')
        return false;
    snprintf(path, PATH_SIZE, "%s/dev", state->root);
    mkdir(path, 0755); /* where it fails, opening the log fails too */
    snprintf(path, PATH_SIZE, "%s/dev/kmsg", state->root);
    return true;
}

static void append(State *state, const char *text)
{
    char path[PATH_SIZE], record[512];
    if (!path_of(state, path))
        return;
    int length = snprintf(record, sizeof record, "%d,%" PRIu64 ",%" PRIu64 ",-;%s\n", LEVEL, state->log_sequence++,
                          milliseconds_since_boot() * 1000, text);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (descriptor < 0)
        return;
    if (write(descriptor, record, (size_t)length) != length)
        state->log_sequence--; /* a full disk: as if it had never been printed */
    close(descriptor);
}

void kernel_log_xid(State *state, const Target *target, uint64_t xid)
{
    char text[256], slice[32] = "";
    const Gpu *gpu = target->gpu;
    if (target->compute != NULL)
        snprintf(slice, sizeof slice, " GPU-I:%02u GPU-CI:%02u", target->gpu_instance, target->compute_instance);
    snprintf(text, sizeof text,
             "NVRM: Xid (PCI:%04x:%02x:%02x%s): %" PRIu64 ", pid='<unknown>', name=<unknown>, simulated", gpu->domain,
             gpu->bus, gpu->device, slice, xid);
    append(state, text);
}

/* The log is of one boot. */
void kernel_log_restart(State *state)
{
    char path[PATH_SIZE];
    state->log_sequence = 0;
    if (path_of(state, path))
        unlink(path);
}
