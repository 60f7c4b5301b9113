package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pintle/pintle/internal/pki"
	"github.com/pintle/pintle/orchestrator/cluster"
)

// Join says which cluster to become a member of, on the first start. Later ones remember it, and use
// Addresses alone, to say where this member is now.
type Join struct {
	Addresses []string // host:port of members; one that answers is enough
	Token     string   // from JoinToken, for RoleMember
}

// membership is what a data folder remembers of the cluster that it belongs to.
type membership struct {
	Member      string // its name
	Cluster     string // the cluster's
	ServiceCIDR netip.Prefix
}

const (
	fileMember = "member.json"
	// soleMember is the name of a member that nobody can reach.
	soleMember = "single"
	joinRetry  = 500 * time.Millisecond
)

// loadMembership reads what the folder remembers, or decides it: a new cluster, or, with Config.Join, what the
// other members say. The identity of the cluster is loaded or fetched with it.
func loadMembership(ctx context.Context, cfg Config, reachable bool) (membership, *identity, error) {
	m, known, err := readMembership(cfg.DataDir)
	if err != nil {
		return m, nil, err
	}
	if known {
		if cfg.Member != "" && cfg.Member != m.Member {
			return m, nil, fmt.Errorf("orchestrator: Config.Member is %q and the data folder is that of %q: a member's name stays", cfg.Member, m.Member)
		}
		id, err := loadIdentity(cfg.DataDir, m.Cluster, cfg.Clock)
		return m, id, err
	}
	m.Cluster, m.ServiceCIDR = cfg.Name, cfg.ServiceCIDR
	if m.Member == "" {
		m.Member = cfg.Member
	}
	if m.Member == "" {
		if m.Member, err = defaultMember(reachable); err != nil {
			return m, nil, err
		}
	}
	var id *identity
	if cfg.Join != nil {
		id, err = fetchIdentity(ctx, cfg, &m)
	} else {
		id, err = loadIdentity(cfg.DataDir, m.Cluster, cfg.Clock)
	}
	if err != nil || cfg.DataDir == "" {
		return m, id, err
	}
	// Written last: a folder without it joins again.
	return m, id, writeMembership(cfg.DataDir, m)
}

func defaultMember(reachable bool) (string, error) {
	if !reachable {
		return soleMember, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("orchestrator: the machine has no host name: set Config.Member: %w", err)
	}
	host = strings.ToLower(host)
	if problems := validation.IsDNS1123Subdomain(host); len(problems) > 0 {
		return "", fmt.Errorf("orchestrator: the host name %q can't be a member's name: set Config.Member: %s", host, problems[0])
	}
	return host, nil
}

// fetchIdentity asks for the cluster's keys until a member answers, and keeps them.
func fetchIdentity(ctx context.Context, cfg Config, m *membership) (*identity, error) {
	token, err := cluster.ParseToken(cfg.Join.Token)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: Config.Join: %w", err)
	}
	var grant cluster.Grant
	for {
		if grant, err = cluster.JoinMember(ctx, cfg.Join.Addresses, token, cfg.Clock.Now); err == nil {
			break
		}
		if final(err) || ctx.Err() != nil {
			return nil, fmt.Errorf("orchestrator: %w", err)
		}
		cfg.Logger.Warn("no member of the cluster answers; trying again", "error", err)
		select {
		case <-time.After(joinRetry):
		case <-ctx.Done():
			return nil, fmt.Errorf("orchestrator: %w", err)
		}
	}
	services, err := netip.ParsePrefix(grant.ServiceCIDR)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: join: the cluster's service range: %w", err)
	}
	if cfg.serviceCIDRGiven && services != cfg.ServiceCIDR {
		return nil, fmt.Errorf("orchestrator: Config.ServiceCIDR is %s and the cluster's is %s: leave it out", cfg.ServiceCIDR, services)
	}
	m.Cluster, m.ServiceCIDR = grant.Name, services
	return grantedIdentity(cfg.DataDir, grant, cfg.Clock)
}

// final errors don't go away by waiting.
func final(err error) bool {
	var refusal cluster.Refusal
	return errors.Is(err, cluster.ErrNotInvited) || errors.Is(err, cluster.ErrOtherCluster) || errors.As(err, &refusal)
}

func readMembership(dir string) (m membership, known bool, err error) {
	if dir == "" {
		return m, false, nil
	}
	data, err := os.ReadFile(filepath.Join(dir, fileMember))
	if errors.Is(err, fs.ErrNotExist) {
		// Folders from before there were members: their store knows itself by that name.
		if _, err := os.Stat(filepath.Join(dir, "store", "FORMAT")); err == nil {
			return membership{Member: soleMember}, false, nil
		}
		return m, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err == nil && (m.Member == "" || !m.ServiceCIDR.IsValid()) {
		err = errors.New("it names no member or no service range")
	}
	if err != nil {
		return m, false, fmt.Errorf("orchestrator: %s in the data folder: %w", fileMember, err)
	}
	return m, true, nil
}

func writeMembership(dir string, m membership) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = pki.WriteFile(filepath.Join(dir, fileMember), append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("orchestrator: keep the membership: %w", err)
	}
	return nil
}

// memberAddress is where the other members reach this one's port: what the config says, the address
// advertised to pods, the listener's own, or the machine's first.
func (c Config) memberAddress(listening net.Addr) string {
	if c.MemberAddress != "" {
		return c.MemberAddress
	}
	host, port, err := net.SplitHostPort(listening.String())
	if err != nil {
		return listening.String()
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		return listening.String()
	}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addresses {
			if network, ok := a.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
				return net.JoinHostPort(network.IP.String(), port)
			}
		}
	}
	return net.JoinHostPort("127.0.0.1", port)
}
