package orchestrator

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/pintle/pintle/internal/pki"
	"github.com/pintle/pintle/raftstore"
)

// A backup is a magic line, the length (4 bytes, big endian) and the SHA-256 of an identity, the identity, and then
// the store's own backup, which has its own checksum. The identity is JSON, and sealed after the second line.
const (
	backupMagic       = "pintle control plane backup 1\n"
	sealedBackupMagic = "pintle control plane backup 2\n"
	// backupPlace is what a sealed identity is bound to.
	backupPlace = "the identity in a backup"
)

// storeBackup begins what the store writes, and so what Config.Backups makes.
const storeBackup = "pintle raftstore backup "

// maxIdentity is far more than an identity takes: a length beyond it is damage.
const maxIdentity = 1 << 20

// backupIdentity is what makes the restored cluster the same one for kubeconfigs, tokens and nodes.
type backupIdentity struct {
	CACert            []byte `json:"caCert"`
	CAKey             []byte `json:"caKey"`
	ServiceAccountKey []byte `json:"serviceAccountKey"`
	// What the cluster was called and where its Services' addresses are; not in older backups.
	Cluster     string       `json:"cluster,omitempty"`
	ServiceCIDR netip.Prefix `json:"serviceCIDR,omitzero"`
}

// Backup writes everything that Restore needs, consistent at one revision, while requests and writes
// go on. It holds the cluster's Secrets and the key of its CA, sealed where Config.KeyProvider is set; without one,
// keep it as you keep those. What it wrote is worth nothing unless it returns nil. It is an error before Ready and
// after Run has ended.
func (o *Orchestrator) Backup(ctx context.Context, w io.Writer) error {
	p := o.running()
	if p == nil {
		return errors.New("orchestrator: backup: the control plane doesn't run: wait for Ready")
	}
	identity := p.identity
	key, err := pki.MarshalKey(identity.key)
	if err != nil {
		return fmt.Errorf("orchestrator: backup: %w", err)
	}
	data, err := json.Marshal(backupIdentity{CACert: identity.ca.CertPEM(), CAKey: identity.ca.KeyPEM(), ServiceAccountKey: key,
		Cluster: p.membership.Cluster, ServiceCIDR: p.membership.ServiceCIDR})
	if err != nil {
		return fmt.Errorf("orchestrator: backup: %w", err)
	}
	magic := backupMagic
	if p.cfg.KeyProvider != nil {
		magic = sealedBackupMagic
		if data, err = raftstore.Seal(ctx, p.cfg.KeyProvider, backupPlace, data); err != nil {
			return fmt.Errorf("orchestrator: backup: %w", err)
		}
	}
	sum := sha256.Sum256(data)
	head := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(data)))
	for _, part := range [][]byte{head, sum[:], data} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("orchestrator: backup: %w", err)
		}
	}
	if err := p.store.Backup(ctx, w); err != nil {
		return fmt.Errorf("orchestrator: %w", err)
	}
	return nil
}

// Restore fills Config.DataDir, which must hold no cluster, from what Backup wrote; New and Run then start
// it, as a cluster of one member, Config.Member. Kubeconfigs, tokens and nodes' certificates of the old
// cluster are good for the new one. Revisions go on far above the backup's, so that informers list anew
// instead of going back in time. The members of the old cluster are none of the new one: they join it with empty
// folders. Config.Name and Config.ServiceCIDR are the old cluster's where they are left out, as they should be. A backup
// of Config.Backups holds the stored state alone: DataDir must then hold the cluster's folder pki. What is sealed needs
// Config.KeyProvider. A folder whose Restore didn't return nil holds no cluster: restore again.
func Restore(cfg Config, r io.Reader) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if cfg.DataDir == "" {
		return errors.New("orchestrator: restore: Config.DataDir is empty: say where the cluster shall live")
	}
	store := filepath.Join(cfg.DataDir, "store")
	if _, err := os.Stat(store); err == nil {
		return fmt.Errorf("orchestrator: restore: %s holds a cluster: give an empty folder", cfg.DataDir)
	}
	in := bufio.NewReader(r)
	old, err := restoreIdentity(cfg, in)
	if err != nil {
		return fmt.Errorf("orchestrator: restore: %w", err)
	}
	m := restoredMembership(cfg, old)
	if err := writeMembership(cfg.DataDir, m); err != nil {
		return err
	}
	// The store comes last, and comes whole or not at all.
	if err := raftstore.Restore(raftstore.Config{Dir: store, NodeID: m.Member, Cluster: m.ClusterID, KeyProvider: cfg.KeyProvider,
		Logger: cfg.Logger.With("part", "store"), Clock: cfg.Clock}, in); err != nil {
		return fmt.Errorf("orchestrator: %w", errors.Join(err, os.RemoveAll(store)))
	}
	return nil
}

// restoredMembership is that of a new cluster, whose one member has what is known of the old one, where the config
// says nothing else.
func restoredMembership(cfg Config, old membership) membership {
	m := membership{Member: cmp.Or(cfg.Member, old.Member, soleMember), Cluster: cfg.Name, ServiceCIDR: cfg.ServiceCIDR, ClusterID: newClusterID()}
	if !cfg.nameGiven && old.Cluster != "" {
		m.Cluster = old.Cluster
	}
	if !cfg.serviceCIDRGiven && old.ServiceCIDR.IsValid() {
		m.ServiceCIDR = old.ServiceCIDR
	}
	return m
}

// restoreIdentity reads the identity, keeps it in the folder and says what is known of the old cluster. What
// Config.Backups makes holds the store alone: it belongs to what the folder has.
func restoreIdentity(cfg Config, r *bufio.Reader) (old membership, err error) {
	if start, _ := r.Peek(len(storeBackup)); string(start) == storeBackup {
		if _, err := os.Stat(filepath.Join(cfg.DataDir, dirPKI, fileCAKey)); err != nil {
			return old, fmt.Errorf("this is a backup of the store alone, and %s does not hold the cluster's keys: bring the folder pki back there first: %w", cfg.DataDir, err)
		}
		if _, err := loadIdentity(cfg, cfg.Name); err != nil { // a wrong key is found now
			return old, err
		}
		if old, _, err = readMembership(cfg.DataDir); err != nil {
			return old, err
		}
		return old, readFacts(cfg.DataDir, &old)
	}
	identity, err := readBackupIdentity(r, cfg)
	if err != nil {
		return old, err
	}
	if cfg.serviceCIDRGiven && identity.ServiceCIDR.IsValid() && cfg.ServiceCIDR != identity.ServiceCIDR {
		return old, fmt.Errorf("Config.ServiceCIDR is %s and the backup's Services have addresses in %s: leave it out", cfg.ServiceCIDR, identity.ServiceCIDR)
	}
	// A folder of a cluster that was here may say which member this was.
	if old, _, err = readMembership(cfg.DataDir); err != nil {
		return old, err
	}
	old.Cluster, old.ServiceCIDR = identity.Cluster, identity.ServiceCIDR
	return old, keepKeys(cfg, identity.CACert, identity.CAKey, identity.ServiceAccountKey)
}

func readBackupIdentity(r io.Reader, cfg Config) (*backupIdentity, error) {
	head := make([]byte, len(backupMagic)+4+sha256.Size)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("read the beginning: %w", err)
	}
	magic := string(head[:len(backupMagic)])
	if magic != backupMagic && magic != sealedBackupMagic {
		return nil, errors.New("this is no backup of a control plane, or one of another version")
	}
	length := binary.BigEndian.Uint32(head[len(backupMagic):])
	if length > maxIdentity {
		return nil, errors.New("the backup is damaged: its identity is too long")
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	if sha256.Sum256(data) != [sha256.Size]byte(head[len(backupMagic)+4:]) {
		return nil, errors.New("the backup is damaged: its identity's checksum is wrong")
	}
	if magic == sealedBackupMagic {
		var err error
		if data, err = raftstore.Unseal(context.Background(), cfg.KeyProvider, backupPlace, data); err != nil {
			return nil, err
		}
	}
	var identity backupIdentity
	if err := json.Unmarshal(data, &identity); err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	if _, err := pki.ParseCA(identity.CACert, identity.CAKey, cfg.Clock); err != nil {
		return nil, err
	}
	if _, err := pki.ParseKey(identity.ServiceAccountKey); err != nil {
		return nil, fmt.Errorf("the service account key: %w", err)
	}
	return &identity, nil
}
