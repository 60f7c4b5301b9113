package api

import (
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func rbacName(name string) []string { return path.IsValidPathSegmentName(name) }

func roleKind() *Kind {
	return &Kind{
		GroupVersionKind: rbacv1.SchemeGroupVersion.WithKind("Role"),
		Resource:         "roles", Singular: "role", Namespaced: true, ValidName: rbacName, CreateOnUpdate: true,
		New:      func() Object { return &rbacv1.Role{} },
		NewList:  func() runtime.Object { return &rbacv1.RoleList{} },
		Validate: check(func(r *rbacv1.Role) field.ErrorList { return validateRules(r.Rules, true) }),
		Columns:  []metav1.TableColumnDefinition{nameColumn(), column("Created At", "When it was created", 0)},
		Row:      row(func(r *rbacv1.Role) []any { return []any{r.Name, createdAt(r)} }),
	}
}

func clusterRoleKind() *Kind {
	return &Kind{
		GroupVersionKind: rbacv1.SchemeGroupVersion.WithKind("ClusterRole"),
		Resource:         "clusterroles", Singular: "clusterrole", ValidName: rbacName, CreateOnUpdate: true,
		New:     func() Object { return &rbacv1.ClusterRole{} },
		NewList: func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		Validate: check(func(r *rbacv1.ClusterRole) field.ErrorList {
			errs := validateRules(r.Rules, false)
			if a := r.AggregationRule; a != nil {
				at := field.NewPath("aggregationRule", "clusterRoleSelectors")
				if len(a.ClusterRoleSelectors) == 0 {
					errs = append(errs, field.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
				}
				for i := range a.ClusterRoleSelectors {
					errs = append(errs, validateSelector(&a.ClusterRoleSelectors[i], at.Index(i))...)
				}
			}
			return errs
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("Created At", "When it was created", 0)},
		Row:     row(func(r *rbacv1.ClusterRole) []any { return []any{r.Name, createdAt(r)} }),
	}
}

func roleBindingKind() *Kind {
	return &Kind{
		GroupVersionKind: rbacv1.SchemeGroupVersion.WithKind("RoleBinding"),
		Resource:         "rolebindings", Singular: "rolebinding", Namespaced: true, ValidName: rbacName, CreateOnUpdate: true,
		New:     func() Object { return &rbacv1.RoleBinding{} },
		NewList: func() runtime.Object { return &rbacv1.RoleBindingList{} },
		Default: of(func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
		Validate: check(func(b *rbacv1.RoleBinding) field.ErrorList {
			return validateBinding(b.RoleRef, b.Subjects, "Role", "ClusterRole")
		}),
		ValidateUpdate: checkPair(func(b, old *rbacv1.RoleBinding) field.ErrorList { return roleRefChanged(b.RoleRef, old.RoleRef) }),
		Columns:        bindingColumns(),
		Row:            row(func(b *rbacv1.RoleBinding) []any { return bindingRow(b, b.RoleRef, b.Subjects) }),
	}
}

func clusterRoleBindingKind() *Kind {
	return &Kind{
		GroupVersionKind: rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"),
		Resource:         "clusterrolebindings", Singular: "clusterrolebinding", ValidName: rbacName, CreateOnUpdate: true,
		New:     func() Object { return &rbacv1.ClusterRoleBinding{} },
		NewList: func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
		Default: of(func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
		Validate: check(func(b *rbacv1.ClusterRoleBinding) field.ErrorList {
			errs := validateBinding(b.RoleRef, b.Subjects, "ClusterRole")
			for i, s := range b.Subjects {
				if s.Kind == rbacv1.ServiceAccountKind && s.Namespace == "" {
					errs = append(errs, field.Required(field.NewPath("subjects").Index(i).Child("namespace"), ""))
				}
			}
			return errs
		}),
		ValidateUpdate: checkPair(func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
			return roleRefChanged(b.RoleRef, old.RoleRef)
		}),
		Columns: bindingColumns(),
		Row:     row(func(b *rbacv1.ClusterRoleBinding) []any { return bindingRow(b, b.RoleRef, b.Subjects) }),
	}
}

func createdAt(o metav1.Object) string {
	return o.GetCreationTimestamp().UTC().Format("2006-01-02T15:04:05Z")
}

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) (errs field.ErrorList) {
	for i, rule := range rules {
		at := field.NewPath("rules").Index(i)
		if len(rule.Verbs) == 0 {
			errs = append(errs, field.Required(at.Child("verbs"), "verbs must contain at least one value"))
		}
		if len(rule.NonResourceURLs) > 0 {
			if namespaced {
				errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
			}
			if len(rule.APIGroups)+len(rule.Resources)+len(rule.ResourceNames) > 0 {
				errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
			}
			continue
		}
		if len(rule.APIGroups) == 0 {
			errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
		}
		if len(rule.Resources) == 0 {
			errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
		}
	}
	return errs
}

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	setZero(&ref.APIGroup, rbacv1.GroupName)
	for i := range subjects {
		if subjects[i].Kind == rbacv1.UserKind || subjects[i].Kind == rbacv1.GroupKind {
			setZero(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}

func validateBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, kinds ...string) (errs field.ErrorList) {
	at := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	known := false
	for _, kind := range kinds {
		known = known || ref.Kind == kind
	}
	if !known {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, kinds))
	}
	errs = append(errs, required(ref.Name, at.Child("name"), "")...)
	for i, s := range subjects {
		at := field.NewPath("subjects").Index(i)
		errs = append(errs, required(s.Name, at.Child("name"), "")...)
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			if s.APIGroup != "" {
				errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{""}))
			}
		case rbacv1.UserKind, rbacv1.GroupKind:
			if s.APIGroup != rbacv1.GroupName {
				errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
			}
		default:
			errs = append(errs, field.NotSupported(at.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
		}
	}
	return errs
}

func roleRefChanged(now, before rbacv1.RoleRef) field.ErrorList {
	if now != before {
		return field.ErrorList{field.Invalid(field.NewPath("roleRef"), now, "cannot change roleRef")}
	}
	return nil
}

func bindingColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), column("Role", "The role that is granted", 0), ageColumn(),
		column("Users", "Users in the roleBinding", 1), column("Groups", "Groups in the roleBinding", 1), column("ServiceAccounts", "ServiceAccounts in the roleBinding", 1),
	}
}

func bindingRow(o metav1.Object, ref rbacv1.RoleRef, subjects []rbacv1.Subject) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{o.GetName(), fmt.Sprintf("%s/%s", ref.Kind, ref.Name), o.GetCreationTimestamp(),
		strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", ")}
}
