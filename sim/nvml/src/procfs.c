/* The kernel module's /proc files, below a host root: who may use a MIG instance, by device minor.
 *
 * Minors follow the driver's fixed table: config 1, monitor 2, then 135 a GPU (by its minor), 9 a GPU instance
 * (itself and 8 compute instances). Read on a real host; programs should parse mig-minors all the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simulator.h"

enum {
    FIRST_MINOR = 3,
    MINORS_PER_GPU_INSTANCE = 1 + MAX_COMPUTE_INSTANCES,
    MINORS_PER_GPU = MAX_GPU_INSTANCES * MINORS_PER_GPU_INSTANCE,
    MODE_ROOT = 0400, /* shown in decimal: 256 */
    MODE_ALL = 0444,  /* 292 */
    PATH_SIZE = 2 * MAX_PATH,
};

static bool environment_counts;

/* Guarded by the process lock. A program under test may see the host root elsewhere than the state says (in a
 * container); the knobs of a process that holds several states must not follow one program's environment. */
void procfs_follow_environment(bool follow)
{
    environment_counts = follow;
}

static const char *root_of(const State *state)
{
    const char *root = environment_counts ? getenv("NVMLSIM_ROOT") : NULL;
    return root != NULL ? root : state->root;
}

__attribute__((format(printf, 3, 4))) static void make_path(const State *state, char *path, const char *format, ...)
{
    va_list arguments;
    int length = snprintf(path, PATH_SIZE, "%s/proc/", root_of(state));
    va_start(arguments, format);
    if (length > 0 && length < PATH_SIZE)
        vsnprintf(path + length, (size_t)(PATH_SIZE - length), format, arguments);
    va_end(arguments);
}

static bool make_parents(const char *path)
{
    char partial[PATH_SIZE];
    snprintf(partial, sizeof partial, "%s", path);
    for (char *slash = strchr(partial + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(partial, 0755) != 0 && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return true;
}

/* The file appears whole, by rename: the real ones are never seen half written. */
static bool write_file(const char *path, const char *text, mode_t mode)
{
    char fresh[PATH_SIZE + 8];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    if (!make_parents(path))
        return false;
    int descriptor = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0)
        return false;
    size_t length = strlen(text);
    bool written = write(descriptor, text, length) == (ssize_t)length && fchmod(descriptor, mode) == 0;
    close(descriptor);
    return written && rename(fresh, path) == 0;
}

static bool write_capability(const char *path, unsigned minor, mode_t mode)
{
    char text[128];
    snprintf(text, sizeof text, "DeviceFileMinor: %u\nDeviceFileMode: %u\nDeviceFileModify: 1\n", minor,
             (unsigned)mode);
    return write_file(path, text, mode);
}

static unsigned minor_of(unsigned gpu_minor, unsigned gpu_instance, int compute_instance)
{
    return FIRST_MINOR + gpu_minor * MINORS_PER_GPU + gpu_instance * MINORS_PER_GPU_INSTANCE +
           (unsigned)(compute_instance + 1);
}

static bool write_devices(const State *state)
{
    char path[PATH_SIZE], text[512];
    make_path(state, path, "devices");
    snprintf(text, sizeof text,
             "Character devices:\n  1 mem\n  5 /dev/tty\n"
             "195 nvidia\n195 nvidia-modeset\n195 nvidiactl\n%3u nvidia-caps\n"
             "\nBlock devices:\n259 blkext\n",
             state->capability_major);
    return write_file(path, text, MODE_ALL);
}

static bool write_minors(const State *state)
{
    char path[PATH_SIZE], *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    if (memory == NULL)
        return false;
    fprintf(memory, "config 1\nmonitor 2\n");
    for (unsigned gpu = 0; gpu < MAX_GPUS; gpu++)
        for (unsigned id = 0; id < MAX_GPU_INSTANCES; id++) {
            fprintf(memory, "gpu%u/gi%u/access %u\n", gpu, id, minor_of(gpu, id, -1));
            for (int compute = 0; compute < MAX_COMPUTE_INSTANCES; compute++)
                fprintf(memory, "gpu%u/gi%u/ci%d/access %u\n", gpu, id, compute, minor_of(gpu, id, compute));
        }
    fclose(memory);
    make_path(state, path, "driver/nvidia-caps/mig-minors");
    bool written = write_file(path, text, MODE_ALL);
    free(text);
    return written;
}

/* What the module shows once it is loaded, instances aside. */
bool procfs_install(const State *state)
{
    char path[PATH_SIZE];
    if (root_of(state)[0] == '\0')
        return true;
    make_path(state, path, "driver/nvidia/capabilities/mig/config");
    if (!write_capability(path, 1, MODE_ROOT))
        return false;
    make_path(state, path, "driver/nvidia/capabilities/mig/monitor");
    return write_capability(path, 2, MODE_ALL) && write_devices(state) && write_minors(state);
}

static void instance_path(const State *state, const Target *target, const char *leaf, char *path)
{
    unsigned minor = target->gpu->minor, id = target->gpu_instance;
    if (target->compute == NULL)
        make_path(state, path, "driver/nvidia/capabilities/gpu%u/mig/gi%u%s", minor, id, leaf);
    else
        make_path(state, path, "driver/nvidia/capabilities/gpu%u/mig/gi%u/ci%u%s", minor, id,
                  target->compute_instance, leaf);
}

/* The access file of the compute instance, or of the GPU instance where target->compute is NULL. */
bool procfs_add(const State *state, const Target *target)
{
    char path[PATH_SIZE];
    if (root_of(state)[0] == '\0')
        return true;
    int compute = target->compute == NULL ? -1 : (int)target->compute_instance;
    instance_path(state, target, "/access", path);
    return write_capability(path, minor_of(target->gpu->minor, target->gpu_instance, compute), MODE_ALL);
}

void procfs_remove(const State *state, const Target *target)
{
    char path[PATH_SIZE];
    if (root_of(state)[0] == '\0')
        return;
    instance_path(state, target, "/access", path);
    unlink(path);
    instance_path(state, target, "", path);
    rmdir(path);
}

void procfs_clear_gpu(const State *state, const Gpu *gpu)
{
    Target target = {.gpu = (Gpu *)gpu};
    for (target.gpu_instance = 0; target.gpu_instance < MAX_GPU_INSTANCES; target.gpu_instance++) {
        target.instance = &target.gpu->instances[target.gpu_instance];
        for (target.compute_instance = 0; target.compute_instance < MAX_COMPUTE_INSTANCES; target.compute_instance++) {
            target.compute = &target.instance->compute[target.compute_instance];
            procfs_remove(state, &target);
        }
        target.compute = NULL;
        procfs_remove(state, &target);
    }
}
