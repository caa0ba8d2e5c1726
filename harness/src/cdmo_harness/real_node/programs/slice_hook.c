/* What NVIDIA's container runtime does with a MIG device, for the simulated driver: an OCI hook of every container.
 *
 *   slice-hook create LIBRARY STATE RECORDS     createRuntime: refuses a container whose slice is gone, else puts
 *                                               the container's process on each of its slices
 *   slice-hook delete LIBRARY STATE RECORDS     poststop: takes it off again
 *
 * Which slices a container has is read from its configuration, as the plugin mounts them: a file under
 * /var/run/nvidia-container-devices for each. RECORDS gets a file for each living container (its processes and
 * slices) and a line in RECORDS/log for each that was to be created.
 */
#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SLICES = 64, UUID_LENGTH = 40, SUCCESS = 0, NOT_FOUND = 6, MEMORY_MIB = 512, PATH_LENGTH = 4096 };

#define DEVICES "/var/run/nvidia-container-devices/"
#define SANDBOX "\"io.kubernetes.cri.sandbox-id\":\""

typedef int (*Open)(const char *path, void **handle);
typedef int (*Add)(void *handle, const char *uuid, unsigned int pid, unsigned long long memory);
typedef int (*Remove)(void *handle, const char *uuid, unsigned int pid);

typedef struct {
    void *library;
    void *handle;
} Driver;

typedef struct {
    char uuids[MOST_SLICES][UUID_LENGTH + 1];
    int count;
} Slices;

static _Noreturn void fail(const char *what, const char *which)
{
    fprintf(stderr, "slice-hook: %s: %s\n", which, what);
    exit(1);
}

static char *read_all(FILE *stream)
{
    size_t size = 0, room = 1 << 16;
    char *text = malloc(room);
    while (text != NULL) {
        size += fread(text + size, 1, room - size - 1, stream);
        if (size < room - 1)
            break;
        room *= 2;
        char *larger = realloc(text, room);
        if (larger == NULL)
            free(text);
        text = larger;
    }
    if (text == NULL)
        fail("out of memory", "reading");
    text[size] = '\0';
    return text;
}

/* The text between `before` and the next quotation mark, into `value`; empty when it is not there. */
static void find(const char *text, const char *before, char *value, size_t size)
{
    value[0] = '\0';
    const char *begin = strstr(text, before);
    if (begin == NULL)
        return;
    begin += strlen(before);
    size_t length = strcspn(begin, "\"");
    if (length < size) {
        memcpy(value, begin, length);
        value[length] = '\0';
    }
}

static void *entry(const Driver *driver, const char *name)
{
    void *found = dlsym(driver->library, name);
    if (found == NULL)
        fail("the library has no such function", name);
    return found;
}

static Driver open_driver(const char *library, const char *state)
{
    Driver driver = {.library = dlopen(library, RTLD_NOW)};
    if (driver.library == NULL)
        fail("the library cannot be loaded", library);
    Open open = (Open)entry(&driver, "nvmlSimOpen");
    if (open(state, &driver.handle) != SUCCESS)
        fail("the driver's state cannot be opened", state);
    return driver;
}

static Slices slices_of(const char *configuration)
{
    Slices slices = {.count = 0};
    const char *at = configuration;
    while ((at = strstr(at, DEVICES "MIG-")) != NULL && slices.count < MOST_SLICES) {
        at += strlen(DEVICES);
        char *uuid = slices.uuids[slices.count];
        size_t length = 0;
        while (length < UUID_LENGTH && (isalnum((unsigned char)at[length]) || at[length] == '-'))
            length++;
        memcpy(uuid, at, length);
        uuid[length] = '\0';
        int known = 0;
        for (int each = 0; each < slices.count; each++)
            known |= strcmp(slices.uuids[each], uuid) == 0;
        slices.count += !known;
    }
    return slices;
}

static FILE *open_record(const char *folder, const char *name, const char *mode)
{
    char path[PATH_LENGTH];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        fail("the path is too long", name);
    return fopen(path, mode);
}

/* One line, in one write: "created|gone CONTAINER SANDBOX [UUID …]". */
static void note(const char *records, const char *what, const char *container, const char *sandbox, const Slices *had)
{
    FILE *log = open_record(records, "log", "a");
    if (log == NULL)
        fail("no line can be written", records);
    static char line[MOST_SLICES * (UUID_LENGTH + 1) + 512];
    int length = snprintf(line, sizeof line, "%s %s %s", what, container, sandbox);
    for (int each = 0; each < had->count; each++)
        length += snprintf(line + length, sizeof line - (size_t)length, " %s", had->uuids[each]);
    setvbuf(log, NULL, _IOFBF, sizeof line + 1);
    fprintf(log, "%s\n", line);
    fclose(log);
}

static void take_off(const Driver *driver, const Slices *slices, int count, unsigned int pid)
{
    Remove off = (Remove)entry(driver, "nvmlSimRemoveProcess");
    for (int each = 0; each < count; each++)
        (void)off(driver->handle, slices->uuids[each], pid); /* a slice that is gone has no process */
}

static int create(const Driver *driver, const char *records, const char *container, const char *state)
{
    char bundle[PATH_LENGTH], sandbox[128], number[32];
    find(state, "\"bundle\":\"", bundle, sizeof bundle);
    const char *pid_text = strstr(state, "\"pid\":");
    FILE *file = open_record(bundle, "config.json", "r");
    if (file == NULL || pid_text == NULL)
        fail("no configuration of this container", bundle);
    char *configuration = read_all(file);
    unsigned int pid = (unsigned int)strtoul(pid_text + strlen("\"pid\":"), NULL, 10);
    find(configuration, SANDBOX, sandbox, sizeof sandbox);
    Slices slices = slices_of(configuration);
    Add add = (Add)entry(driver, "nvmlSimAddProcess");
    for (int each = 0; each < slices.count; each++) {
        if (add(driver->handle, slices.uuids[each], pid, MEMORY_MIB << 20) == SUCCESS)
            continue;
        take_off(driver, &slices, each, pid);
        note(records, "gone", container, sandbox, &slices);
        fail("unknown device", slices.uuids[each]);
    }
    note(records, "created", container, sandbox, &slices);
    FILE *record = slices.count > 0 ? open_record(records, container, "w") : NULL;
    snprintf(number, sizeof number, "%u", pid);
    for (int each = 0; record != NULL && each < slices.count; each++)
        fprintf(record, "%s %s\n", number, slices.uuids[each]);
    if (record != NULL)
        fclose(record);
    return 0;
}

static int delete(const Driver *driver, const char *records, const char *container)
{
    FILE *record = open_record(records, container, "r");
    if (record == NULL)
        return 0; /* it had no slices */
    Slices slice = {.count = 1};
    unsigned int pid;
    while (fscanf(record, "%u %40s", &pid, slice.uuids[0]) == 2)
        take_off(driver, &slice, 1, pid);
    fclose(record);
    char path[PATH_LENGTH];
    snprintf(path, sizeof path, "%s/%s", records, container);
    return remove(path);
}

int main(int count, char **arguments)
{
    if (count != 5)
        fail("takes create|delete LIBRARY STATE RECORDS", "usage");
    char *state = read_all(stdin), container[256];
    find(state, "\"id\":\"", container, sizeof container);
    if (container[0] == '\0' || strchr(container, '/') != NULL)
        fail("no container id on the standard input", "state");
    Driver driver = open_driver(arguments[2], arguments[3]);
    if (strcmp(arguments[1], "create") == 0)
        return create(&driver, arguments[4], container, state);
    return delete(&driver, arguments[4], container);
}
