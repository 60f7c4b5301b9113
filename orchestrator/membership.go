package orchestrator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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
	// ClusterID is the same on all members, and no other cluster's: one that is restored gets another.
	ClusterID string
}

const (
	fileMember = "member.json"
	// fileFacts, in the folder pki, is for who brings that back to restore a backup of the store alone.
	fileFacts = "cluster.json"
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
		id, err := loadIdentity(cfg, m.Cluster)
		if err == nil {
			err = invitedElsewhere(cfg, id)
		}
		if err == nil && m.ClusterID == "" { // from before there were ids
			m.ClusterID = firstClusterID(id)
			err = writeMembership(cfg.DataDir, m)
		}
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
		m.ClusterID = newClusterID()
		id, err = loadIdentity(cfg, m.Cluster)
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
	id, err := grantedIdentity(cfg, grant)
	if err != nil {
		return nil, err
	}
	if m.ClusterID = grant.ClusterID; m.ClusterID == "" {
		m.ClusterID = firstClusterID(id)
	}
	return id, nil
}

// newClusterID names a cluster that begins.
func newClusterID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// firstClusterID is that of clusters from before they had ids: it follows from the CA, so that all members agree.
func firstClusterID(id *identity) string {
	pin := cluster.Pin(id.ca.Certificate())
	return hex.EncodeToString(pin[:16])
}

// invitedElsewhere is an error where the folder is a cluster's and the token of Config.Join is another's.
func invitedElsewhere(cfg Config, id *identity) error {
	if cfg.Join == nil || cfg.Join.Token == "" {
		return nil
	}
	if token, err := cluster.ParseToken(cfg.Join.Token); err != nil || token.CA == cluster.Pin(id.ca.Certificate()) {
		return nil // it isn't used any more
	}
	return fmt.Errorf("orchestrator: Config.Join: %w than that of the data folder %s: give an empty folder to join it, or leave Join out to go on with the old one",
		cluster.ErrOtherCluster, cfg.DataDir)
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
	err := writeJSON(filepath.Join(dir, dirPKI, fileFacts), clusterFacts{m.Cluster, m.ServiceCIDR})
	if err == nil {
		err = writeJSON(filepath.Join(dir, fileMember), m)
	}
	if err != nil {
		return fmt.Errorf("orchestrator: keep the membership: %w", err)
	}
	return nil
}

func writeJSON(file string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return pki.WriteFile(file, append(data, '\n'), 0o600)
}

// clusterFacts is what fileFacts holds.
type clusterFacts struct {
	Cluster     string
	ServiceCIDR netip.Prefix
}

// readFacts puts what the folder pki knows of the cluster into m. A folder from before it knew is no error.
func readFacts(dir string, m *membership) error {
	file := filepath.Join(dir, dirPKI, fileFacts)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var facts clusterFacts
	if err == nil {
		err = json.Unmarshal(data, &facts)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	m.Cluster, m.ServiceCIDR = facts.Cluster, facts.ServiceCIDR
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

// KeptServiceCIDR is where the cluster of a data folder has its cluster IPs; zero where no cluster is yet.
func KeptServiceCIDR(dataDir string) (netip.Prefix, error) {
	m, _, err := readMembership(dataDir)
	return m.ServiceCIDR, err
}
