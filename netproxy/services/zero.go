package services

import (
	"fmt"
	"time"
)

// AnnotationScaleToZero on a Service says after how long without a connection or request, on any node, its workload is
// scaled to zero: "5m", a second at least.
const AnnotationScaleToZero = "pintle.dev/scale-to-zero-after"

// ScaleToZeroAfter is what a Service's annotations say of it; 0: nothing, or something that is an error.
func ScaleToZeroAfter(annotations map[string]string) (time.Duration, error) {
	text, ok := annotations[AnnotationScaleToZero]
	if !ok {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is no duration, such as 5m", AnnotationScaleToZero, text)
	}
	if d < time.Second {
		return 0, fmt.Errorf("%s: %s is less than a second", AnnotationScaleToZero, d)
	}
	return d, nil
}
