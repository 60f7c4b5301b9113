package csi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// dial connects to a Unix socket. A path that is longer than the kernel takes is dialled through its folder.
func dial(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+filepath.Base(path), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			const longest = 100
			if len(path) <= longest {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}
			dir, err := os.Open(filepath.Dir(path))
			if err != nil {
				return nil, err
			}
			c, err := new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
			return c, errors.Join(err, dir.Close())
		}))
}
