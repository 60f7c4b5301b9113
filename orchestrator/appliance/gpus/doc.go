// Package gpus lets an appliance's node use the machine's NVIDIA GPUs:
//
//	appliance.Config{DataDir: dir, GPUs: gpus.Config{}}
//
// It is a package of its own, so that a program without GPUs links neither NVML nor anything else that needs cgo. Without
// a driver the node says why there are no GPUs, and has them when a driver appears.
//
// Config is the type to know; New makes what an agent without an appliance takes as runtime.Config.Devices. It translates between
// a gpu.Manager, which knows no Kubernetes, and the agent, which knows no GPUs, and decides nothing about either.
package gpus
