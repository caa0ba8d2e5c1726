/* Handles: kind, GPU slot, GPU instance id and compute instance id in one integer, the same in all processes.
 *
 * As with the real driver, a handle of a destroyed instance is invalid until an instance with the same ids is
 * made, and then names that one. The values lie below any heap, which Go's garbage collector insists on.
 */
#include <stdio.h>
#include <string.h>

#include "simulator.h"

enum { KIND_DEVICE = 5, KIND_MIG = 6, KIND_GPU_INSTANCE = 7, KIND_COMPUTE_INSTANCE = 8 };

static uintptr_t make(unsigned kind, unsigned slot, unsigned gpu_instance, unsigned compute_instance)
{
    return (uintptr_t)kind << 28 | slot << 16 | gpu_instance << 8 | compute_instance;
}

nvmlDevice_t device_handle(unsigned slot)
{
    return make(KIND_DEVICE, slot, 0, 0);
}

nvmlDevice_t mig_handle(unsigned slot, unsigned gpu_instance, unsigned compute_instance)
{
    return make(KIND_MIG, slot, gpu_instance, compute_instance);
}

nvmlGpuInstance_t gpu_instance_handle(unsigned slot, unsigned gpu_instance)
{
    return make(KIND_GPU_INSTANCE, slot, gpu_instance, 0);
}

nvmlComputeInstance_t compute_instance_handle(unsigned slot, unsigned gpu_instance, unsigned compute_instance)
{
    return make(KIND_COMPUTE_INSTANCE, slot, gpu_instance, compute_instance);
}

static nvmlReturn_t find(State *state, uintptr_t handle, unsigned kind, Target *target)
{
    unsigned slot = handle >> 16 & 0xfff, gpu_instance = handle >> 8 & 0xff, compute_instance = handle & 0xff;
    if (handle >> 28 != kind || slot >= state->gpu_count)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (gpu_instance >= MAX_GPU_INSTANCES || compute_instance >= MAX_COMPUTE_INSTANCES)
        return NVML_ERROR_INVALID_ARGUMENT;
    *target = (Target){.gpu = &state->gpus[slot], .slot = slot};
    if (target->gpu->lost)
        return NVML_ERROR_GPU_IS_LOST;
    if (kind == KIND_DEVICE)
        return NVML_SUCCESS;
    target->instance = &target->gpu->instances[gpu_instance];
    target->gpu_instance = gpu_instance;
    if (!target->instance->used)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (kind == KIND_GPU_INSTANCE)
        return NVML_SUCCESS;
    target->compute = &target->instance->compute[compute_instance];
    target->compute_instance = compute_instance;
    return target->compute->used ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t find_gpu(State *state, nvmlDevice_t handle, Target *target)
{
    return find(state, handle, KIND_DEVICE, target);
}

nvmlReturn_t find_mig(State *state, nvmlDevice_t handle, Target *target)
{
    return find(state, handle, KIND_MIG, target);
}

/* A GPU or a MIG device; target->compute tells which. */
nvmlReturn_t find_either(State *state, nvmlDevice_t handle, Target *target)
{
    return find(state, handle, handle >> 28 == KIND_MIG ? KIND_MIG : KIND_DEVICE, target);
}

nvmlReturn_t find_gpu_instance(State *state, nvmlGpuInstance_t handle, Target *target)
{
    return find(state, handle, KIND_GPU_INSTANCE, target);
}

nvmlReturn_t find_compute_instance(State *state, nvmlComputeInstance_t handle, Target *target)
{
    return find(state, handle, KIND_COMPUTE_INSTANCE, target);
}

static uint64_t hash_text(const char *text, uint64_t seed)
{
    uint64_t hash = 0xcbf29ce484222325u ^ seed; /* FNV-1a */
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    hash ^= hash >> 32; /* its high bits are weak on short texts */
    return hash * 0x9e3779b97f4a7c15u;
}

/* Made from GPU and ids alone, with the version bits of a name-based UUID: the same ids give the same UUID. */
void mig_uuid(const Gpu *gpu, unsigned gpu_instance, unsigned compute_instance, char *text)
{
    char name[96];
    snprintf(name, sizeof name, "%s/%u/%u", gpu->uuid, gpu_instance, compute_instance);
    uint64_t high = hash_text(name, 1), low = hash_text(name, 2);
    snprintf(text, 48, "MIG-%08x-%04x-5%03x-%04x-%012llx", (unsigned)(high >> 32), (unsigned)(high >> 16 & 0xffff),
             (unsigned)(high & 0xfff), (unsigned)(0x8000 | (low >> 48 & 0x3fff)),
             (unsigned long long)(low & 0xffffffffffffu));
}

nvmlReturn_t find_uuid(State *state, const char *uuid, Target *target)
{
    char text[48];
    if (uuid == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned slot = 0; slot < state->gpu_count; slot++) {
        Gpu *gpu = &state->gpus[slot];
        *target = (Target){.gpu = gpu, .slot = slot};
        if (strcmp(uuid, gpu->uuid) == 0)
            return NVML_SUCCESS;
        for (unsigned index = 0; index < MAX_GPU_INSTANCES * MAX_COMPUTE_INSTANCES; index++) {
            target->gpu_instance = index / MAX_COMPUTE_INSTANCES;
            target->compute_instance = index % MAX_COMPUTE_INSTANCES;
            target->instance = &gpu->instances[target->gpu_instance];
            target->compute = &target->instance->compute[target->compute_instance];
            if (!target->instance->used || !target->compute->used)
                continue;
            mig_uuid(gpu, target->gpu_instance, target->compute_instance, text);
            if (strcmp(uuid, text) == 0)
                return NVML_SUCCESS;
        }
    }
    return NVML_ERROR_NOT_FOUND;
}
