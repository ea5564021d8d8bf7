// SimKernel: pages, and what reads and writes them.
#include <algorithm>
#include <fcntl.h>

#include "common/base/check.h"
#include "tests/support/sim_kernel_parts.h"

namespace cairn {

namespace {
constexpr uint64_t kWriteMax = 1 << 20;

uint64_t page_of(uint64_t offset) {
  return offset / kSimPageBytes;
}
}  // namespace

// ---------------------------------------------------------------- page locks

Task<void> SimKernel::lock_page(InodePtr inode, PagePtr page) {
  while (page->locked)
    co_await inode->moved.wait();
  page->locked = true;
}

void SimKernel::unlock_page(Inode& inode, Page& page) {
  page.locked = false;
  inode.moved.notify_all();
}

// What lies beyond goes, the rest of the last page becomes zeros.
Task<void> SimKernel::truncate_pages(InodePtr inode, uint64_t size) {
  for (;;) {
    auto at = inode->pages.lower_bound(page_of(size));
    if (at != inode->pages.end() && at->first * kSimPageBytes < size) {
      PagePtr page = at->second;
      co_await lock_page(inode, page);
      if (page->in_cache) {
        auto from = static_cast<size_t>(size % kSimPageBytes);
        std::fill(page->data.begin() + static_cast<ptrdiff_t>(from), page->data.end(), '\0');
      }
      unlock_page(*inode, *page);
      at = inode->pages.upper_bound(page_of(size));
    }
    if (at == inode->pages.end()) co_return;
    PagePtr page = at->second;
    co_await lock_page(inode, page);
    if (page->in_cache) {
      page->in_cache = false;
      page->dirty = false;
      inode->pages.erase(page->index);
    }
    unlock_page(*inode, *page);
  }
}

// invalidate_inode_pages2_range(): upward, and never back.
Task<void> SimKernel::drop_pages(InodePtr inode, uint64_t first, uint64_t last) {
  for (uint64_t index = first;;) {
    auto at = inode->pages.lower_bound(index);
    if (at == inode->pages.end() || at->first > last) co_return;
    index = at->first + 1;
    PagePtr page = at->second;
    co_await lock_page(inode, page);
    if (page->in_cache && page->dirty) (void)co_await write_back(inode, page);
    while (page->write_back)
      co_await inode->moved.wait();
    if (page->in_cache && !page->dirty) {
      page->in_cache = false;
      inode->pages.erase(page->index);
    }
    unlock_page(*inode, *page);
    if (index == 0) co_return;
  }
}

// ---------------------------------------------------------------- reading

// Pages that are not there are added, locked, until the answer; it fills them within the process's call.
void SimKernel::read_pages(FilePtr file, uint64_t first, uint64_t last) {
  InodePtr inode = file->inode;
  std::vector<PagePtr> pages;
  for (uint64_t index = first; index <= last; ++index) {
    auto page = std::make_shared<Page>(Page{.index = index, .locked = true});
    inode->pages[index] = page;
    pages.push_back(std::move(page));
  }
  uint64_t version = version_;
  auto size = static_cast<uint32_t>(pages.size() * kSimPageBytes);
  fuse_read_in read{
      .fh = file->handle, .offset = first * kSimPageBytes, .size = size, .flags = static_cast<uint32_t>(file->flags)};
  auto fill = [this, inode, pages, version, size, first](int error, std::string_view body) {
    for (const PagePtr& page : pages) {
      if (error == 0) {
        std::string_view part = body.substr(std::min(body.size(), (page->index - first) * kSimPageBytes));
        part = part.substr(0, kSimPageBytes);
        std::ranges::copy(part, page->data.begin());
        std::fill(page->data.begin() + static_cast<ptrdiff_t>(part.size()), page->data.end(), '\0');
        page->up_to_date = true;
      }
      unlock_page(*inode, *page);
    }
    // Shorter than asked for: the file ends here, unless something has happened to it meanwhile.
    uint64_t end = first * kSimPageBytes + body.size();
    if (error == 0 && body.size() < size && inode->version <= version && end < inode->size && !inode->size_unstable) {
      inode->version = ++version_;
      inode->size = end;
    }
  };
  fuse_in_header head{
      .len = sizeof head + sizeof read, .opcode = FUSE_READ, .unique = next_unique_, .nodeid = inode->number};
  next_unique_ += 2;
  queue({.unique = head.unique,
         .opcode = FUSE_READ,
         .message = bytes_of(head) + bytes_of(read),
         .on_reply = std::move(fill)});
}

// An up-to-date page; what is read ahead comes with it.
Task<Sys<SimKernel::PagePtr>> SimKernel::get_page(FilePtr file, uint64_t index) {
  InodePtr inode = file->inode;
  for (int failures = 0; failures < 3;) {
    auto found = inode->pages.find(index);
    if (found == inode->pages.end()) {
      uint64_t end = std::max(index, inode->size == 0 ? 0 : page_of(inode->size - 1));
      uint64_t last = index;
      uint64_t most = failures == 0 ? random_.below(settings_.read_ahead_pages) : 0;
      while (last < end && last - index < most && !inode->pages.contains(last + 1))
        ++last;
      read_pages(file, index, last);
      continue;
    }
    PagePtr page = found->second;
    while (page->locked && page->in_cache)
      co_await inode->moved.wait();
    if (page->in_cache && page->up_to_date) co_return Sys<PagePtr>{.value = page};
    if (!page->in_cache || page->locked) continue;
    // Filled in part by a WRITE, or not at all by a READ that failed: read by itself.
    inode->pages.erase(index);
    page->in_cache = false;
    ++failures;
  }
  co_return Sys<PagePtr>{.error = EIO};
}

// Up to the size as it is after each page has come.
Task<Sys<std::string>> SimKernel::copy_pages(FilePtr file, uint64_t offset, uint64_t size) {
  std::string out;
  while (out.size() < size) {
    uint64_t at = offset + out.size();
    if (at >= file->inode->size) break;
    Sys<PagePtr> page = co_await get_page(file, page_of(at));
    if (!page) co_return Sys<std::string>{.error = page.error};
    uint64_t end = std::min({offset + size, (page_of(at) + 1) * kSimPageBytes, file->inode->size});
    if (at >= end) break;
    out.append(page.value->data.data() + at % kSimPageBytes, end - at);
    if (random_.chance(1, 8)) co_await pause();
  }
  co_return Sys<std::string>{.value = std::move(out)};
}

Task<Sys<std::string>> SimKernel::read_direct(FilePtr file, uint64_t offset, uint64_t size) {
  if ((flags2_ & 16) != 0) (void)co_await write_back_all(file->inode);
  fuse_read_in read{.fh = file->handle,
                    .offset = offset,
                    .size = static_cast<uint32_t>(size),
                    .read_flags = FUSE_READ_LOCKOWNER,
                    .lock_owner = 1,
                    .flags = static_cast<uint32_t>(file->flags)};
  Answer answer = co_await ask(FUSE_READ, file->inode->number, bytes_of(read));
  co_return Sys<std::string>{.error = answer.error, .value = std::move(answer.body)};
}

Task<Sys<std::string>> SimKernel::read(FilePtr file, uint64_t offset, uint64_t size) {
  co_await pause();
  if (is_direct(file)) {
    Sys<std::string> data = co_await read_direct(file, offset, size);
    co_return data;
  }
  if (offset + size > file->inode->size) {
    Sys<Stat> known = co_await get_attributes(file->inode);
    if (!known) co_return Sys<std::string>{.error = known.error};
  }
  Sys<std::string> data = co_await copy_pages(file, offset, size);
  co_return data;
}

Task<Sys<std::string>> SimKernel::load(FilePtr file, uint64_t offset, uint64_t size) {
  co_await pause();
  Sys<std::string> data = co_await copy_pages(file, offset, size);
  co_return data;
}

// ---------------------------------------------------------------- writing

Task<SimKernel::Answer> SimKernel::send_write(FilePtr file, uint64_t offset, std::string data, uint32_t flags) {
  fuse_write_in write{.fh = file->handle,
                      .offset = offset,
                      .size = static_cast<uint32_t>(data.size()),
                      .write_flags = flags,
                      .lock_owner = 0,
                      .flags = static_cast<uint32_t>(file->flags)};
  Answer answer = co_await ask(FUSE_WRITE, file->inode->number, bytes_of(write) + data);
  if (answer.error == 0 && answer.as<fuse_write_out>().size != data.size()) answer.error = EIO;
  co_return answer;
}

void SimKernel::written(Inode& inode, uint64_t end) {
  inode.version = ++version_;
  inode.size = std::max(inode.size, end);
  inode.size_unstable = false;
  invalidate_attributes(inode);
}

// One WRITE after the other: each takes whole pages, until one that it fills in part and that is not up to date, which
// stays locked until the answer.
Task<Sys<uint64_t>> SimKernel::write_pages(FilePtr file, uint64_t offset, std::string data) {
  InodePtr inode = file->inode;
  uint64_t done = 0;
  int error = 0;
  if (inode->size < offset + data.size()) inode->size_unstable = true;
  while (done < data.size() && error == 0) {
    std::vector<PagePtr> pages;
    PagePtr held;
    uint64_t begin = done;
    while (done < data.size() && !held && done - begin < kWriteMax) {
      uint64_t at = offset + done;
      uint64_t part = std::min<uint64_t>(kSimPageBytes - at % kSimPageBytes, data.size() - done);
      PagePtr& slot = inode->pages[page_of(at)];
      if (!slot) slot = std::make_shared<Page>(Page{.index = page_of(at)});
      PagePtr page = slot;
      co_await lock_page(inode, page);
      if (!page->in_cache) {
        unlock_page(*inode, *page);
        continue;
      }
      std::copy_n(data.begin() + static_cast<ptrdiff_t>(done), part,
                  page->data.begin() + static_cast<ptrdiff_t>(at % kSimPageBytes));
      if (part == kSimPageBytes) page->up_to_date = true;
      pages.push_back(page);
      done += part;
      if (page->up_to_date) {
        unlock_page(*inode, *page);
      } else {
        held = page;
      }
    }
    Answer answer = co_await send_write(file, offset + begin, data.substr(begin, done - begin), 0);
    error = answer.error;
    if (error != 0) {
      for (const PagePtr& page : pages)
        page->up_to_date = false;
      done = begin;
    }
    if (held) unlock_page(*inode, *held);
  }
  written(*inode, done > 0 ? offset + done : 0);
  co_return Sys<uint64_t>{.error = done > 0 ? 0 : error, .value = done};
}

Task<Sys<uint64_t>> SimKernel::write_direct(FilePtr file, uint64_t offset, std::string data) {
  InodePtr inode = file->inode;
  if (settings_.direct_mmap) {
    (void)co_await write_back_all(inode);
    co_await drop_pages(inode, page_of(offset), page_of(offset + data.size() - 1));
  }
  if (inode->size < offset + data.size()) inode->size_unstable = true;
  uint64_t size = data.size();
  Answer answer = co_await send_write(file, offset, std::move(data), 0);
  written(*inode, answer.error == 0 ? offset + size : 0);
  co_return Sys<uint64_t>{.error = answer.error, .value = answer.error == 0 ? size : 0};
}

Task<Sys<uint64_t>> SimKernel::write(FilePtr file, uint64_t offset, std::string data) {
  co_await pause();
  InodePtr inode = file->inode;
  RwLock::Hold lock = co_await RwLock::exclusive(inode->lock);
  if ((file->flags & O_APPEND) != 0) offset = inode->size;  // whatever it is worth
  Sys<uint64_t> done;
  if (is_direct(file)) {
    done = co_await write_direct(file, offset, std::move(data));
  } else {
    done = co_await write_pages(file, offset, std::move(data));
  }
  co_return done;
}

// ---------------------------------------------------------------- mappings

// The page is locked by whoever calls, or he is the only one who touches it.
Task<int> SimKernel::write_back(InodePtr inode, PagePtr page) {
  while (page->write_back)
    co_await inode->moved.wait();
  if (!page->dirty || !page->in_cache) co_return 0;
  FilePtr file;
  for (const std::weak_ptr<File>& writer : inode->writers) {
    if (FilePtr one = writer.lock(); one && !one->closed) file = one;
  }
  page->dirty = false;
  uint64_t at = page->index * kSimPageBytes;
  if (!file || at >= inode->size) co_return 0;
  page->write_back = true;
  std::string data(page->data.data(), std::min(kSimPageBytes, inode->size - at));
  Answer answer = co_await send_write(file, at, std::move(data), FUSE_WRITE_CACHE);
  page->write_back = false;
  inode->moved.notify_all();
  co_return answer.error;
}

Task<int> SimKernel::write_back_all(InodePtr inode) {
  int failed = 0;
  std::vector<PagePtr> pages;
  for (const auto& [index, page] : inode->pages) {
    if (page->dirty || page->write_back) pages.push_back(page);
  }
  for (const PagePtr& page : pages) {
    co_await lock_page(inode, page);
    unlock_page(*inode, *page);  // not held during the WRITE: that is of a copy
    int error = co_await write_back(inode, page);
    if (failed == 0) failed = error;
    while (page->write_back)
      co_await inode->moved.wait();
  }
  co_return failed;
}

Task<int> SimKernel::store(FilePtr file, uint64_t offset, std::string data) {
  co_await pause();
  InodePtr inode = file->inode;
  // As a careful application: what lies beyond the end, or what the kernel believes to be the end, is SIGBUS.
  Sys<Stat> known = co_await get_attributes(inode);
  if (!known) co_return known.error;
  if (offset + data.size() > inode->size) co_return EFAULT;
  for (uint64_t done = 0; done < data.size();) {
    uint64_t at = offset + done;
    Sys<PagePtr> page = co_await get_page(file, page_of(at));
    if (!page) co_return page.error;
    co_await lock_page(inode, page.value);
    while (page.value->write_back)
      co_await inode->moved.wait();
    if (page.value->in_cache && page.value->up_to_date) {
      uint64_t part = std::min<uint64_t>(kSimPageBytes - at % kSimPageBytes, data.size() - done);
      std::copy_n(data.begin() + static_cast<ptrdiff_t>(done), part,
                  page.value->data.begin() + static_cast<ptrdiff_t>(at % kSimPageBytes));
      page.value->dirty = true;
      done += part;
    }
    unlock_page(*inode, *page.value);
  }
  co_return 0;
}

Task<int> SimKernel::fsync(FilePtr file) {
  co_await pause();
  int failed = co_await write_back_all(file->inode);
  Answer answer = co_await ask(FUSE_FSYNC, file->inode->number, bytes_of(fuse_fsync_in{.fh = file->handle}));
  co_return failed != 0 ? failed : answer.error;
}

Task<int> SimKernel::close(FilePtr file) {
  int failed = co_await write_back_all(file->inode);
  if ((file->open_flags & FOPEN_NOFLUSH) == 0) {
    Answer answer = co_await ask(FUSE_FLUSH, file->inode->number, bytes_of(fuse_flush_in{.fh = file->handle}));
    if (failed == 0) failed = answer.error;
  }
  file->closed = true;
  std::erase_if(file->inode->writers, [&](const auto& writer) { return writer.lock() == file; });
  --file->inode->opens;
  tell(FUSE_RELEASE, file->inode->number,
       bytes_of(fuse_release_in{.fh = file->handle, .flags = static_cast<uint32_t>(file->flags)}));
  co_return failed;
}

}  // namespace cairn
