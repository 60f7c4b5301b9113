package apiserver

import (
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/registry"
)

// The options that go with writes, as errors name them.
const (
	createOptionsKind = "CreateOptions"
	updateOptionsKind = "UpdateOptions"
	patchOptionsKind  = "PatchOptions"
	deleteOptionsKind = "DeleteOptions"
)

// invalidOptions is the answer to options that aren't as they should be; nil where there is no problem.
func invalidOptions(kind string, problems field.ErrorList) error {
	if len(problems) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", problems)
}

// writeOptions are what create, update and patch have in common.
type writeOptions struct {
	dryRun     bool
	manager    string // who the change is attributed to
	validation fieldValidation
}

// readWriteOptions reads and checks a query. kind is how errors name the options.
func readWriteOptions(r *http.Request, query url.Values, kind string) (writeOptions, error) {
	manager, dryRun, validate := query.Get("fieldManager"), query["dryRun"], query.Get("fieldValidation")
	problems := validation.ValidateFieldManager(manager, field.NewPath("fieldManager"))
	problems = append(problems, validation.ValidateDryRun(field.NewPath("dryRun"), dryRun)...)
	problems = append(problems, validation.ValidateFieldValidation(field.NewPath("fieldValidation"), validate)...)
	if validate == "" {
		validate = string(validateWarn)
	}
	if manager == "" {
		manager = managerOf(r.UserAgent())
	}
	return writeOptions{dryRun: len(dryRun) > 0, manager: manager, validation: fieldValidation(validate)}, invalidOptions(kind, problems)
}

func (c *call) writeOptions(r *http.Request, kind string) (writeOptions, error) {
	return readWriteOptions(r, c.query, kind)
}

// managerOf is the program's name as its user agent gives it, for writers that name no manager.
func managerOf(userAgent string) string {
	name, _, _ := strings.Cut(userAgent, "/")
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, name)
	return name[:min(len(name), validation.FieldManagerMaxLength)]
}

func (c *call) createOptions(o writeOptions) registry.CreateOptions {
	return registry.CreateOptions{User: c.user.Name, Groups: c.user.Groups, DryRun: o.dryRun, FieldManager: o.manager}
}

func (c *call) updateOptions(o writeOptions) registry.UpdateOptions {
	return registry.UpdateOptions{User: c.user.Name, Groups: c.user.Groups, DryRun: o.dryRun, FieldManager: o.manager}
}
