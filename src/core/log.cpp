#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace strand {

namespace {
spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto l = spdlog::stderr_color_mt("strand");
    l->set_pattern("%^[%H:%M:%S] %v%$");
    return l;
  }();
  return *instance;
}
}  // namespace

void log_info(const std::string& message) {
  logger().info(message);
}
void log_warning(const std::string& message) {
  logger().warn("warning: {}", message);
}
void log_quiet() {
  logger().set_level(spdlog::level::err);
}

}  // namespace strand
