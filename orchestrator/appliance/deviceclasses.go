package appliance

import (
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deviceClasses are those that NVIDIA's driver for dynamic resource allocation installs: whole GPUs, and MIG instances.
func deviceClasses() (out []*resourcev1.DeviceClass) {
	for _, kind := range []string{"gpu", "mig"} {
		out = append(out, &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: kind + ".nvidia.com"}, Spec: resourcev1.DeviceClassSpec{
			Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{
				Expression: "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == '" + kind + "'"}}}}})
	}
	return out
}
