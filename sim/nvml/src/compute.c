/* Compute instances: parts of a GPU instance's compute slices, at most the whole of it. */
#include <stdio.h>
#include <string.h>

#include "simulator.h"

/* The number of slices of each compute instance profile; 0: not made by any simulated card. The profile's id
 * is its place here, as on hardware. */
static const unsigned slices_of[NVML_COMPUTE_INSTANCE_PROFILE_COUNT] = {1, 2, 3, 4, 7, 0, 0, 0, 0};

/* A GPU instance offers its full width, and of the smaller ones 1 and 2 slices; only the 7-slice one offers
 * 3 and 4 besides. */
static bool offers(const Profile *profile, unsigned slices)
{
    if (slices == 0 || slices > profile->compute_slices)
        return false;
    return slices == profile->compute_slices || slices <= 2 || profile->compute_slices == 7;
}

/* The full width is named as the GPU instance is, a part "MIG 1c.3g.40gb". */
void compute_name(const Profile *profile, unsigned slices, char *text, size_t size)
{
    if (slices == profile->compute_slices)
        snprintf(text, size, "MIG %s", profile->name);
    else
        snprintf(text, size, "MIG %uc.%s", slices, profile->name);
}

/* A part has as many multiprocessors as a one-slice GPU instance has, times its slices (1c.3g.40gb on H100: 16
 * of the 60). */
unsigned compute_multiprocessors(const Card *card, const Profile *profile, unsigned slices)
{
    const Profile *single = profile_by_enum(card, 0);
    if (slices == profile->compute_slices || single == NULL)
        return profile->multiprocessors;
    return slices * single->multiprocessors;
}

static nvmlReturn_t find_offer(State *state, nvmlGpuInstance_t instance, unsigned profile_id, Target *target)
{
    nvmlReturn_t answer = find_gpu_instance(state, instance, target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (profile_id >= NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    return offers(profile_of(target), slices_of[profile_id]) ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

static nvmlReturn_t describe(State *state, nvmlGpuInstance_t instance, unsigned profile_id, unsigned engine,
                             Target *target, nvmlComputeInstanceProfileInfo_t *info)
{
    if (engine != 0) /* 0, shared engines, is the only engine profile there is */
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_offer(state, instance, profile_id, target);
    if (answer != NVML_SUCCESS)
        return answer;
    const Profile *profile = profile_of(target);
    unsigned slices = slices_of[profile_id];
    *info = (nvmlComputeInstanceProfileInfo_t){
        .id = profile_id,
        .sliceCount = slices,
        .instanceCount = profile->compute_slices / slices,
        .multiprocessorCount = compute_multiprocessors(card_of(target->gpu), profile, slices),
        .copyEngineCount = profile->copy_engines,
        .decoderCount = profile->engines.decoders,
        .encoderCount = profile->engines.encoders,
        .jpegCount = profile->engines.jpegs,
        .ofaCount = profile->engines.ofas,
    };
    return NVML_SUCCESS;
}

static nvmlReturn_t profile_info_v1(State *state, nvmlGpuInstance_t instance, unsigned profile_id, unsigned engine,
                                    nvmlComputeInstanceProfileInfo_t *info)
{
    Target target;
    return info == NULL ? NVML_ERROR_INVALID_ARGUMENT
                        : describe(state, instance, profile_id, engine, &target, info);
}

static nvmlReturn_t profile_info(State *state, nvmlGpuInstance_t instance, unsigned profile_id, unsigned engine,
                                 nvmlComputeInstanceProfileInfo_v3_t *info)
{
    Target target;
    if (info == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != COMPUTE_INSTANCE_PROFILE_INFO_V2 && info->version != COMPUTE_INSTANCE_PROFILE_INFO_V3)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t answer = describe(state, instance, profile_id, engine, &target, &info->info);
    if (answer != NVML_SUCCESS)
        return answer;
    compute_name(profile_of(&target), slices_of[profile_id], info->name, sizeof info->name);
    if (info->version == COMPUTE_INSTANCE_PROFILE_INFO_V3)
        info->capabilities = 0;
    return NVML_SUCCESS;
}

static unsigned taken_slices(const GpuInstance *instance)
{
    unsigned mask = 0;
    for (unsigned id = 0; id < MAX_COMPUTE_INSTANCES; id++)
        if (instance->compute[id].used)
            mask |= ((1u << instance->compute[id].slices) - 1) << instance->compute[id].start;
    return mask;
}

/* The starts of a width are its multiples within the instance. `count` is what is there or what is free. */
static unsigned list_starts(const Target *target, unsigned slices, unsigned taken, nvmlPlacement_t *placements)
{
    unsigned count = 0;
    for (unsigned start = 0; start + slices <= profile_of(target)->compute_slices; start += slices)
        if ((taken & ((1u << slices) - 1) << start) == 0)
            placements[count++] = (nvmlPlacement_t){start, slices};
    return count;
}

static nvmlReturn_t possible_placements(State *state, nvmlGpuInstance_t instance, unsigned profile_id,
                                        nvmlPlacement_t *placements, unsigned *count)
{
    Target target;
    nvmlPlacement_t all[MAX_COMPUTE_INSTANCES];
    nvmlReturn_t answer = count == NULL ? NVML_ERROR_INVALID_ARGUMENT
                                        : find_offer(state, instance, profile_id, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    *count = list_starts(&target, slices_of[profile_id], 0, all);
    if (placements != NULL)
        memcpy(placements, all, *count * sizeof *all);
    return NVML_SUCCESS;
}

static nvmlReturn_t remaining(State *state, nvmlGpuInstance_t instance, unsigned profile_id, unsigned *count)
{
    Target target;
    nvmlPlacement_t vacant[MAX_COMPUTE_INSTANCES];
    nvmlReturn_t answer = count == NULL ? NVML_ERROR_INVALID_ARGUMENT
                                        : find_offer(state, instance, profile_id, &target);
    if (answer == NVML_SUCCESS)
        *count = list_starts(&target, slices_of[profile_id], taken_slices(target.instance), vacant);
    return answer;
}

static nvmlReturn_t create_at(State *state, Target *target, unsigned profile_id, unsigned start,
                              nvmlComputeInstance_t *compute)
{
    unsigned id = 0;
    while (id < MAX_COMPUTE_INSTANCES && target->instance->compute[id].used)
        id++;
    if (id == MAX_COMPUTE_INSTANCES)
        return NVML_ERROR_INSUFFICIENT_RESOURCES;
    target->compute_instance = id;
    target->compute = &target->instance->compute[id];
    if (!procfs_add(state, target))
        return NVML_ERROR_OPERATING_SYSTEM;
    *target->compute = (ComputeInstance){1, profile_id, start, slices_of[profile_id]};
    state->counters.compute_instances_created++;
    *compute = compute_instance_handle(target->slot, target->gpu_instance, id);
    return NVML_SUCCESS;
}

/* `wanted` NULL: the first free place. */
static nvmlReturn_t create(State *state, nvmlGpuInstance_t instance, unsigned profile_id,
                           const nvmlPlacement_t *wanted, nvmlComputeInstance_t *compute)
{
    Target target;
    nvmlPlacement_t places[MAX_COMPUTE_INSTANCES];
    nvmlReturn_t answer = compute == NULL ? NVML_ERROR_INVALID_ARGUMENT
                                          : find_offer(state, instance, profile_id, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (!state->privileged)
        return NVML_ERROR_NO_PERMISSION;
    unsigned slices = slices_of[profile_id], taken = taken_slices(target.instance);
    unsigned width = profile_of(&target)->compute_slices;
    bool legal = wanted == NULL || (wanted->size == slices && wanted->start % slices == 0 &&
                                    wanted->start <= width - slices);
    if (!legal)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned count = list_starts(&target, slices, taken, places);
    for (unsigned index = 0; index < count; index++)
        if (wanted == NULL || places[index].start == wanted->start)
            return create_at(state, &target, profile_id, places[index].start, compute);
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
}

static nvmlReturn_t destroy(State *state, nvmlComputeInstance_t compute)
{
    Target target;
    nvmlReturn_t answer = find_compute_instance(state, compute, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (!state->privileged)
        return NVML_ERROR_NO_PERMISSION;
    if (has_processes(state, target.slot, (int)target.gpu_instance, (int)target.compute_instance)) {
        state->counters.destroyed_in_use_attempts++;
        return NVML_ERROR_IN_USE;
    }
    procfs_remove(state, &target);
    *target.compute = (ComputeInstance){0};
    state->counters.compute_instances_destroyed++;
    return NVML_SUCCESS;
}

static nvmlReturn_t list(State *state, nvmlGpuInstance_t instance, unsigned profile_id,
                         nvmlComputeInstance_t *instances, unsigned *count)
{
    Target target;
    if (instances == NULL || count == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t answer = find_offer(state, instance, profile_id, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    *count = 0;
    for (unsigned id = 0; id < MAX_COMPUTE_INSTANCES; id++)
        if (target.instance->compute[id].used && target.instance->compute[id].profile == profile_id)
            instances[(*count)++] = compute_instance_handle(target.slot, target.gpu_instance, id);
    return NVML_SUCCESS;
}

static nvmlReturn_t by_id(State *state, nvmlGpuInstance_t instance, unsigned id, nvmlComputeInstance_t *compute)
{
    Target target;
    nvmlReturn_t answer = compute == NULL ? NVML_ERROR_INVALID_ARGUMENT
                                          : find_gpu_instance(state, instance, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    if (id >= MAX_COMPUTE_INSTANCES || !target.instance->compute[id].used)
        return NVML_ERROR_NOT_FOUND;
    *compute = compute_instance_handle(target.slot, target.gpu_instance, id);
    return NVML_SUCCESS;
}

static nvmlReturn_t info(State *state, nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *out)
{
    Target target;
    nvmlReturn_t answer = out == NULL ? NVML_ERROR_INVALID_ARGUMENT
                                      : find_compute_instance(state, compute, &target);
    if (answer != NVML_SUCCESS)
        return answer;
    *out = (nvmlComputeInstanceInfo_t){
        .device = mig_handle(target.slot, target.gpu_instance, target.compute_instance),
        .gpuInstance = gpu_instance_handle(target.slot, target.gpu_instance),
        .id = target.compute_instance,
        .profileId = target.compute->profile,
        .placement = {target.compute->start, target.compute->slices},
    };
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned profile_id,
                                                                 unsigned engine,
                                                                 nvmlComputeInstanceProfileInfo_t *out)
{
    ANSWER(profile_info_v1(state, instance, profile_id, engine, out));
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, unsigned profile_id,
                                                                  unsigned engine,
                                                                  nvmlComputeInstanceProfileInfo_v3_t *out)
{
    ANSWER(profile_info(state, instance, profile_id, engine, out));
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t instance,
                                                                        unsigned profile_id,
                                                                        nvmlPlacement_t *placements,
                                                                        unsigned *count)
{
    ANSWER(possible_placements(state, instance, profile_id, placements, count));
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance,
                                                                       unsigned profile_id, unsigned *count)
{
    ANSWER(remaining(state, instance, profile_id, count));
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t instance, unsigned profile_id,
                                                         nvmlComputeInstance_t *compute)
{
    ANSWER(create(state, instance, profile_id, NULL, compute));
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t instance,
                                                                      unsigned profile_id,
                                                                      const nvmlPlacement_t *placement,
                                                                      nvmlComputeInstance_t *compute)
{
    ANSWER(placement == NULL ? NVML_ERROR_INVALID_ARGUMENT
                             : create(state, instance, profile_id, placement, compute));
}

EXPORT nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t compute)
{
    ANSWER(destroy(state, compute));
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, unsigned profile_id,
                                                       nvmlComputeInstance_t *instances, unsigned *count)
{
    ANSWER(list(state, instance, profile_id, instances, count));
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned id,
                                                          nvmlComputeInstance_t *compute)
{
    ANSWER(by_id(state, instance, id, compute));
}

EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute, nvmlComputeInstanceInfo_t *out)
{
    ANSWER(info(state, compute, out));
}
