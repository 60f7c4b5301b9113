package authz

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// Reviews answers the create-only kinds that ask about users and their rights.
type Reviews struct {
	Authorizer Authorizer
	RBAC       RBAC
	Tokens     authn.TokenAuthenticator
	Clock      clock.PassiveClock // nil: the real one
}

// Create answers one review for the user that asks. namespace is the request's, "" at cluster
// scope. review is not changed; the answer is a copy with its status. Errors are apierrors
// statuses; a kind that is no review is a BadRequest.
func (r Reviews) Create(ctx context.Context, by *authn.User, namespace string, review runtime.Object) (runtime.Object, error) {
	switch o := review.DeepCopyObject().(type) {
	case *authenticationv1.SelfSubjectReview:
		c := r.Clock
		if c == nil {
			c = clock.RealClock{}
		}
		o.CreationTimestamp.Time = c.Now()
		o.Status.UserInfo = userInfo(by)
		return o, nil
	case *authenticationv1.TokenReview:
		if o.Spec.Token == "" {
			return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
		}
		if r.Tokens == nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("no token authenticator is configured"))
		}
		user, audiences, ok, err := r.Tokens.AuthenticateToken(ctx, o.Spec.Token, o.Spec.Audiences)
		o.Status = authenticationv1.TokenReviewStatus{Authenticated: ok}
		if err != nil {
			o.Status.Error = err.Error()
		}
		if ok {
			o.Status.User, o.Status.Audiences = userInfo(user), audiences
		}
		return o, nil
	case *authorizationv1.SubjectAccessReview:
		status, err := r.review(ctx, "SubjectAccessReview", specUser(o.Spec), o.Spec.ResourceAttributes, o.Spec.NonResourceAttributes)
		o.Status = status
		return o, err
	case *authorizationv1.LocalSubjectAccessReview:
		if o.Spec.ResourceAttributes == nil || o.Spec.NonResourceAttributes != nil {
			return nil, invalid("LocalSubjectAccessReview", field.Invalid(field.NewPath("spec.resourceAttributes"), nil, "must be specified, and nonResourceAttributes must not"))
		}
		if o.Spec.ResourceAttributes.Namespace != namespace {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must match namespace: %v", namespace))
		}
		status, err := r.review(ctx, "LocalSubjectAccessReview", specUser(o.Spec), o.Spec.ResourceAttributes, nil)
		o.Status = status
		return o, err
	case *authorizationv1.SelfSubjectAccessReview:
		status, err := r.review(ctx, "SelfSubjectAccessReview", by, o.Spec.ResourceAttributes, o.Spec.NonResourceAttributes)
		o.Status = status
		return o, err
	case *authorizationv1.SelfSubjectRulesReview:
		if o.Spec.Namespace == "" {
			return nil, apierrors.NewBadRequest("no namespace on request")
		}
		o.Status = r.rules(by, o.Spec.Namespace)
		return o, nil
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%T is no review", review))
	}
}

func (r Reviews) review(ctx context.Context, kind string, user *authn.User, resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) (authorizationv1.SubjectAccessReviewStatus, error) {
	var status authorizationv1.SubjectAccessReviewStatus
	if (resource == nil) == (path == nil) {
		return status, invalid(kind, field.Invalid(field.NewPath("spec.resourceAttributes"), nil, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if user == nil || user.Name == "" && len(user.Groups) == 0 {
		return status, invalid(kind, field.Invalid(field.NewPath("spec.user"), "", "at least one of user or group must be specified"))
	}
	a := Attributes{User: user}
	if resource != nil {
		if resource.FieldSelector != nil || resource.LabelSelector != nil {
			return status, invalid(kind, field.Forbidden(field.NewPath("spec.resourceAttributes"), "fieldSelector and labelSelector are not supported"))
		}
		a.ResourceRequest = true
		a.Verb, a.Namespace, a.APIGroup, a.APIVersion = resource.Verb, resource.Namespace, resource.Group, resource.Version
		a.Resource, a.Subresource, a.Name = resource.Resource, resource.Subresource, resource.Name
	} else {
		a.Verb, a.Path = path.Verb, path.Path
	}
	allowed, reason, err := r.Authorizer.Authorize(ctx, a)
	status.Allowed, status.Reason = allowed, reason
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status, nil
}

func (r Reviews) rules(user *authn.User, namespace string) authorizationv1.SubjectRulesReviewStatus {
	status := authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	rules, err := r.RBAC.RulesFor(user, namespace)
	if err != nil {
		status.Incomplete, status.EvaluationError = true, err.Error()
	}
	if user.InGroup(authn.GroupMasters) {
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
			rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
	}
	if _, ok := NodeName(user); ok {
		// What a node may do depends on its pods; a list of rules can't say that.
		status.Incomplete, status.EvaluationError = true, "node authorizer does not support user rule resolution"
	}
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			status.ResourceRules = append(status.ResourceRules, authorizationv1.ResourceRule{Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames})
		}
		if len(rule.NonResourceURLs) > 0 {
			status.NonResourceRules = append(status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	return status
}

func invalid(kind string, problem *field.Error) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: kind}, "", field.ErrorList{problem})
}

func specUser(s authorizationv1.SubjectAccessReviewSpec) *authn.User {
	u := &authn.User{Name: s.User, UID: s.UID, Groups: s.Groups, Extra: map[string][]string{}}
	for k, v := range s.Extra {
		u.Extra[k] = v
	}
	return u
}

func userInfo(u *authn.User) authenticationv1.UserInfo {
	if u == nil {
		return authenticationv1.UserInfo{}
	}
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	if len(u.Extra) > 0 {
		info.Extra = map[string]authenticationv1.ExtraValue{}
		for k, v := range u.Extra {
			info.Extra[k] = v
		}
	}
	return info
}
