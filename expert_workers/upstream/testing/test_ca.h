// Certificates made on the spot, so that no key lies in the tree.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_TEST_CA_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_TEST_CA_H_

#include <string>

namespace conclave::upstream {

struct TestCertificate {
  std::string certificate_pem;
  std::string key_pem;
};

// A certificate authority of its own for each object. Useful for TLS that
// verifies, and for TLS that must not.
class TestCa {
 public:
  TestCa();
  const std::string& ca_pem() const { return ca_.certificate_pem; }
  // For a host name or an IPv4 address, valid from a day ago for `days`; a
  // negative number makes it expired.
  TestCertificate Issue(const std::string& host, int days = 1) const;

 private:
  TestCertificate ca_;
};

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_TEST_CA_H_
