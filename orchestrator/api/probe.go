package api

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateProbe(p *corev1.Probe, once bool, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateHandler(p.Exec, p.HTTPGet, p.TCPSocket, p.GRPC, nil, at)
	for child, value := range inOrder(map[string]int32{"initialDelaySeconds": p.InitialDelaySeconds, "timeoutSeconds": p.TimeoutSeconds,
		"periodSeconds": p.PeriodSeconds, "successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold}) {
		errs = append(errs, nonNegative(int64(value), at.Child(child))...)
	}
	if once && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	if g := p.TerminationGracePeriodSeconds; g != nil {
		if !once {
			errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *g, "must not be set for readinessProbes"))
		} else if *g <= 0 {
			errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0"))
		}
	}
	return errs
}

func validateLifecycle(l *corev1.Lifecycle, at *field.Path) (errs field.ErrorList) {
	if l == nil {
		return nil
	}
	if l.StopSignal != nil {
		errs = append(errs, unsupported(at.Child("stopSignal"), "set the signal in the image"))
	}
	if l.PostStart != nil {
		errs = append(errs, validateHook(l.PostStart, at.Child("postStart"))...)
	}
	if l.PreStop != nil {
		errs = append(errs, validateHook(l.PreStop, at.Child("preStop"))...)
	}
	return errs
}

// validateHook refuses what the API reference says of tcpSocket hooks, that they fail at run time, while there
// is somebody to tell.
func validateHook(h *corev1.LifecycleHandler, at *field.Path) field.ErrorList {
	errs := validateHandler(h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep, at)
	if h.TCPSocket != nil {
		errs = append(errs, unsupported(at.Child("tcpSocket"), "Kubernetes fails such hooks when they are due; use exec, httpGet or sleep"))
	}
	return errs
}

func validateHandler(exec *corev1.ExecAction, http *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, grpc *corev1.GRPCAction, sleep *corev1.SleepAction, at *field.Path) (errs field.ErrorList) {
	count := 0
	if exec != nil {
		count++
		if len(exec.Command) == 0 {
			errs = append(errs, field.Required(at.Child("exec", "command"), ""))
		}
	}
	if http != nil {
		count++
		errs = append(errs, required(http.Path, at.Child("httpGet", "path"), "")...)
		errs = append(errs, validatePortRef(http.Port, at.Child("httpGet", "port"))...)
		if http.Protocol != nil {
			errs = append(errs, unsupported(at.Child("httpGet", "protocol"), "probes speak HTTP/1.1"))
		}
		errs = append(errs, oneOf(http.Scheme, []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS}, at.Child("httpGet", "scheme"))...)
		for i, h := range http.HTTPHeaders {
			errs = append(errs, invalid(validation.IsHTTPHeaderName(h.Name), at.Child("httpGet", "httpHeaders").Index(i), h.Name)...)
		}
	}
	if tcp != nil {
		count++
		errs = append(errs, validatePortRef(tcp.Port, at.Child("tcpSocket", "port"))...)
	}
	if grpc != nil {
		count++
		errs = append(errs, validatePort(int64(grpc.Port), at.Child("grpc", "port"))...)
		if grpc.Mode != nil && *grpc.Mode != "Plaintext" {
			errs = append(errs, unsupported(at.Child("grpc", "mode"), "gRPC probes use plain connections"))
		}
	}
	if sleep != nil {
		count++
		errs = append(errs, nonNegative(sleep.Seconds, at.Child("sleep", "seconds"))...)
	}
	switch {
	case count == 0:
		errs = append(errs, field.Required(at, "must specify a handler type"))
	case count > 1:
		errs = append(errs, field.Forbidden(at, fmt.Sprintf("may not specify more than 1 handler type (%d are)", count)))
	}
	return errs
}

func validatePortRef(port intstr.IntOrString, at *field.Path) field.ErrorList {
	if port.Type == intstr.Int {
		return validatePort(int64(port.IntVal), at)
	}
	return invalid(validation.IsValidPortName(port.StrVal), at, port.StrVal)
}

// validateSleeps keeps sleep hooks within the pod's grace period, which would cut them short.
func validateSleeps(s *corev1.PodSpec, spec *field.Path) (errs field.ErrorList) {
	if s.TerminationGracePeriodSeconds == nil {
		return nil
	}
	grace := *s.TerminationGracePeriodSeconds
	check := func(h *corev1.LifecycleHandler, at *field.Path) {
		if h != nil && h.Sleep != nil && h.Sleep.Seconds > grace {
			errs = append(errs, field.Invalid(at.Child("sleep", "seconds"), h.Sleep.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", grace)))
		}
	}
	for _, l := range []struct {
		containers []corev1.Container
		at         *field.Path
	}{{s.InitContainers, spec.Child("initContainers")}, {s.Containers, spec.Child("containers")}} {
		for i := range l.containers {
			if c := l.containers[i].Lifecycle; c != nil {
				check(c.PostStart, l.at.Index(i).Child("lifecycle", "postStart"))
				check(c.PreStop, l.at.Index(i).Child("lifecycle", "preStop"))
			}
		}
	}
	return errs
}
