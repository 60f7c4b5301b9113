package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"
)

// DefaultIssuer and DefaultAudience are what tokens say where the configuration says nothing.
const (
	DefaultIssuer   = "https://kubernetes.default.svc"
	DefaultAudience = "https://kubernetes.default.svc"

	minTokenSeconds = 600
	maxTokenSeconds = 1 << 32
	defaultSeconds  = 3600
)

// Getter reads the objects that tokens are bound to. A missing object is an apierrors NotFound.
// It must be safe for concurrent use; what it returns is not changed.
type Getter interface {
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// ServiceAccountConfig configures both an Issuer and ServiceAccountTokens.
type ServiceAccountConfig struct {
	// Key signs (ES256) and checks tokens. It must be on P-256.
	Key *ecdsa.PrivateKey
	// OldKeys are still believed: those that were replaced, until the tokens they signed expired.
	OldKeys []*ecdsa.PublicKey
	// Issuer is the iss claim; "" is DefaultIssuer.
	Issuer string
	// Audiences are the API server's own; nil is the issuer alone. A token that asks for none
	// gets them, and only tokens that carry one of them authenticate requests.
	Audiences []string
	Getter    Getter
	Clock     clock.PassiveClock // nil: the real one
}

func (c ServiceAccountConfig) check() (ServiceAccountConfig, error) {
	if c.Key == nil || c.Key.Curve != elliptic.P256() {
		return c, errors.New("service account key: an ECDSA key on P-256 is needed")
	}
	for _, k := range c.OldKeys {
		if k == nil || k.Curve != elliptic.P256() {
			return c, errors.New("old service account key: an ECDSA key on P-256 is needed")
		}
	}
	if c.Getter == nil {
		return c, errors.New("service account tokens: a Getter is needed")
	}
	if c.Issuer == "" {
		c.Issuer = DefaultIssuer
	}
	if len(c.Audiences) == 0 {
		c.Audiences = []string{c.Issuer}
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	return c, nil
}

type claims struct {
	Audience  []string    `json:"aud"`
	Expires   int64       `json:"exp"`
	IssuedAt  int64       `json:"iat"`
	NotBefore int64       `json:"nbf"`
	Issuer    string      `json:"iss"`
	ID        string      `json:"jti,omitempty"`
	Subject   string      `json:"sub"`
	Private   bindingInfo `json:"kubernetes.io"`
}

type bindingInfo struct {
	Namespace      string `json:"namespace"`
	Node           *ref   `json:"node,omitempty"`
	Pod            *ref   `json:"pod,omitempty"`
	Secret         *ref   `json:"secret,omitempty"`
	ServiceAccount ref    `json:"serviceaccount"`
}

type ref struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

// Issuer makes service account tokens: the TokenRequest subresource.
type Issuer struct{ cfg ServiceAccountConfig }

// NewIssuer checks the configuration.
func NewIssuer(cfg ServiceAccountConfig) (*Issuer, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &Issuer{cfg: cfg}, nil
}

// Issue makes a token for sa. The returned TokenRequest has the spec as it was granted (defaults
// filled in) and the status. Errors are apierrors statuses: Invalid for a wrong spec, NotFound
// and Conflict for a bound object that isn't there or isn't the one that was meant.
func (i *Issuer) Issue(ctx context.Context, sa *corev1.ServiceAccount, spec authenticationv1.TokenRequestSpec) (*authenticationv1.TokenRequest, error) {
	spec = *spec.DeepCopy()
	seconds := int64(defaultSeconds)
	if spec.ExpirationSeconds != nil {
		seconds = *spec.ExpirationSeconds
	}
	spec.ExpirationSeconds = &seconds
	if len(spec.Audiences) == 0 {
		spec.Audiences = slices.Clone(i.cfg.Audiences)
	}
	var problems field.ErrorList
	path := field.NewPath("spec")
	if seconds < minTokenSeconds {
		problems = append(problems, field.Invalid(path.Child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"))
	}
	if seconds > maxTokenSeconds {
		problems = append(problems, field.Invalid(path.Child("expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	for n, audience := range spec.Audiences {
		if audience == "" {
			problems = append(problems, field.Invalid(path.Child("audiences").Index(n), audience, "must not be empty"))
		}
	}
	if len(problems) > 0 {
		return nil, apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), sa.Name, problems)
	}

	now := i.cfg.Clock.Now()
	c := claims{
		Audience:  spec.Audiences,
		Expires:   now.Unix() + seconds,
		IssuedAt:  now.Unix(),
		NotBefore: now.Unix(),
		Issuer:    i.cfg.Issuer,
		ID:        newID(),
		Subject:   ServiceAccountUser(sa.Namespace, sa.Name),
		Private:   bindingInfo{Namespace: sa.Namespace, ServiceAccount: ref{sa.Name, sa.UID}},
	}
	if b := spec.BoundObjectRef; b != nil {
		if err := i.bind(ctx, sa, b, &c.Private); err != nil {
			return nil, err
		}
	}
	token, err := sign(i.cfg.Key, c)
	if err != nil {
		return nil, fmt.Errorf("sign token of %s: %w", c.Subject, err)
	}
	return &authenticationv1.TokenRequest{
		TypeMeta:   metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
		ObjectMeta: metav1.ObjectMeta{Name: sa.Name, Namespace: sa.Namespace, CreationTimestamp: metav1.NewTime(now)},
		Spec:       spec,
		Status: authenticationv1.TokenRequestStatus{
			Token:               token,
			ExpirationTimestamp: metav1.NewTime(time.Unix(c.Expires, 0)),
		},
	}, nil
}

func (i *Issuer) bind(ctx context.Context, sa *corev1.ServiceAccount, b *authenticationv1.BoundObjectReference, info *bindingInfo) error {
	var uid types.UID
	gr := corev1.Resource(strings.ToLower(b.Kind) + "s")
	switch {
	case b.Kind == "Pod" && b.APIVersion == "v1":
		pod, err := i.cfg.Getter.Pod(ctx, sa.Namespace, b.Name)
		if err != nil {
			return err
		}
		account := pod.Spec.ServiceAccountName
		if account == "" {
			account = "default"
		}
		if account != sa.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", sa.Name))
		}
		uid, info.Pod = pod.UID, &ref{pod.Name, pod.UID}
		if pod.Spec.NodeName != "" {
			info.Node = &ref{Name: pod.Spec.NodeName}
			if node, err := i.cfg.Getter.Node(ctx, pod.Spec.NodeName); err == nil {
				info.Node.UID = node.UID
			}
		}
	case b.Kind == "Secret" && b.APIVersion == "v1":
		secret, err := i.cfg.Getter.Secret(ctx, sa.Namespace, b.Name)
		if err != nil {
			return err
		}
		uid, info.Secret = secret.UID, &ref{secret.Name, secret.UID}
	case b.Kind == "Node" && b.APIVersion == "v1":
		node, err := i.cfg.Getter.Node(ctx, b.Name)
		if err != nil {
			return err
		}
		uid, info.Node = node.UID, &ref{node.Name, node.UID}
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of kind %q, API version %q", b.Kind, b.APIVersion))
	}
	if b.UID != "" && b.UID != uid {
		return apierrors.NewConflict(gr, b.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", b.UID))
	}
	return nil
}

// ServiceAccountTokens believes the tokens of an Issuer with the same configuration, as long as
// the service account, and the object that a token is bound to, exist with the same UID.
type ServiceAccountTokens struct{ cfg ServiceAccountConfig }

// NewServiceAccountTokens checks the configuration.
func NewServiceAccountTokens(cfg ServiceAccountConfig) (*ServiceAccountTokens, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &ServiceAccountTokens{cfg: cfg}, nil
}

// AuthenticateToken returns false without an error for what is no token of this issuer, and an
// error that wraps ErrInvalidToken for one that is no longer good.
func (t *ServiceAccountTokens) AuthenticateToken(ctx context.Context, token string, audiences []string) (*User, []string, bool, error) {
	c, signed, ok := parse(token)
	if !ok || c.Issuer != t.cfg.Issuer {
		return nil, nil, false, nil
	}
	invalid := func(format string, args ...any) (*User, []string, bool, error) {
		return nil, nil, false, fmt.Errorf("%w: %s", ErrInvalidToken, fmt.Sprintf(format, args...))
	}
	if !t.signed(signed) {
		return invalid("wrong signature")
	}
	now := t.cfg.Clock.Now().Unix()
	if now >= c.Expires {
		return invalid("service account token has expired")
	}
	if now < c.NotBefore-60 { // clocks of two machines may differ
		return invalid("service account token is not valid yet")
	}
	if audiences == nil {
		audiences = t.cfg.Audiences
	}
	var good []string
	for _, a := range audiences {
		if slices.Contains(c.Audience, a) {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		return invalid("token audiences %q is invalid for the target audiences %q", c.Audience, audiences)
	}
	if err := t.exists(ctx, c.Private); err != nil {
		return invalid("%v", err)
	}
	p := c.Private
	user := &User{
		Name:   ServiceAccountUser(p.Namespace, p.ServiceAccount.Name),
		UID:    string(p.ServiceAccount.UID),
		Groups: ServiceAccountGroups(p.Namespace),
		Extra:  map[string][]string{},
	}
	if c.ID != "" {
		user.Extra[ExtraCredentialID] = []string{"JTI=" + c.ID}
	}
	if p.Pod != nil {
		user.Extra[ExtraPodName], user.Extra[ExtraPodUID] = []string{p.Pod.Name}, []string{string(p.Pod.UID)}
	}
	if p.Node != nil {
		user.Extra[ExtraNodeName] = []string{p.Node.Name}
		if p.Node.UID != "" {
			user.Extra[ExtraNodeUID] = []string{string(p.Node.UID)}
		}
	}
	return user, good, true, nil
}

// exists checks what the token is bound to. A deleted pod's token ends with the pod, not with
// the token's time.
func (t *ServiceAccountTokens) exists(ctx context.Context, p bindingInfo) error {
	sa, err := t.cfg.Getter.ServiceAccount(ctx, p.Namespace, p.ServiceAccount.Name)
	if err != nil {
		return err
	}
	if sa.UID != p.ServiceAccount.UID {
		return fmt.Errorf("service account UID (%s) does not match claim (%s)", sa.UID, p.ServiceAccount.UID)
	}
	if p.Pod != nil {
		pod, err := t.cfg.Getter.Pod(ctx, p.Namespace, p.Pod.Name)
		if err != nil {
			return err
		}
		if pod.UID != p.Pod.UID {
			return fmt.Errorf("pod UID (%s) does not match service account pod ref claim (%s)", pod.UID, p.Pod.UID)
		}
	}
	if p.Secret != nil {
		secret, err := t.cfg.Getter.Secret(ctx, p.Namespace, p.Secret.Name)
		if err != nil {
			return err
		}
		if secret.UID != p.Secret.UID {
			return fmt.Errorf("secret UID (%s) does not match service account secret ref claim (%s)", secret.UID, p.Secret.UID)
		}
	}
	if p.Node != nil && p.Pod == nil {
		node, err := t.cfg.Getter.Node(ctx, p.Node.Name)
		if err != nil {
			return err
		}
		if node.UID != p.Node.UID {
			return fmt.Errorf("node UID (%s) does not match service account node ref claim (%s)", node.UID, p.Node.UID)
		}
	}
	return nil
}

type signature struct {
	keyID     string
	hash      [sha256.Size]byte
	signature []byte
}

func (t *ServiceAccountTokens) signed(s signature) bool {
	if len(s.signature) != 64 {
		return false
	}
	r, v := new(big.Int).SetBytes(s.signature[:32]), new(big.Int).SetBytes(s.signature[32:])
	for _, key := range append([]*ecdsa.PublicKey{&t.cfg.Key.PublicKey}, t.cfg.OldKeys...) {
		if s.keyID != "" && subtle.ConstantTimeCompare([]byte(s.keyID), []byte(keyID(key))) != 1 {
			continue
		}
		if ecdsa.Verify(key, s.hash[:], r, v) {
			return true
		}
	}
	return false
}

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid,omitempty"`
}

func sign(key *ecdsa.PrivateKey, c claims) (string, error) {
	h, err := json.Marshal(header{Algorithm: "ES256", KeyID: keyID(&key.PublicKey)})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString(h) + "." + enc.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", err
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return text + "." + enc.EncodeToString(raw), nil
}

func parse(token string) (claims, signature, bool) {
	var c claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, signature{}, false
	}
	enc := base64.RawURLEncoding
	rawHeader, err1 := enc.DecodeString(parts[0])
	body, err2 := enc.DecodeString(parts[1])
	sig, err3 := enc.DecodeString(parts[2])
	var h header
	if err1 != nil || err2 != nil || err3 != nil ||
		json.Unmarshal(rawHeader, &h) != nil || h.Algorithm != "ES256" || json.Unmarshal(body, &c) != nil {
		return c, signature{}, false
	}
	return c, signature{keyID: h.KeyID, hash: sha256.Sum256([]byte(parts[0] + "." + parts[1])), signature: sig}, true
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
