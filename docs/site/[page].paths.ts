import { REPOSITORY_PAGES, readPage } from './.vitepress/repository.ts'

export default {
  paths: () => REPOSITORY_PAGES.map(page => ({ params: { page: page.page }, content: readPage(page) })),
}
